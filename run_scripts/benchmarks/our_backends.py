"""Our side of inference: a model by each library that is installed, in float32 or int8."""

import tempfile
from collections.abc import Callable
from functools import cache, partial

import torch
from transformers import AutoModelForSequenceClassification

from m3se.modeling.dual_encoder import DualEncoder
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.backends.choice import INT8, PACKAGES, Backend, choose_backend
from m3se.trainers.backends.compiling import compile_scorer
from m3se.trainers.backends.samples import document_sample, list_sample
from m3se.trainers.errors import InputError
from m3se.trainers.models.inspection import load_tokenizer
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.retrieval.scorers import PairwiseScorer, Scorer
from m3se.trainers.teacher.pair_scorer import PairScorer


def our_scorers(workload: Workload, pairs: bool, is_int8: bool) -> dict[str, Callable[[], Scorer]]:
    """Bind the loading of our cross-encoder (`pairs`) or dual encoder to every library that is installed."""
    loaders = {}
    for name in PACKAGES:
        if workload.device.type != "cpu" and name != "torch":
            continue
        try:
            backend = choose_backend(name, INT8 if is_int8 else None)
        except InputError:  # not installed, or it has no int8
            continue
        number_format = INT8 if is_int8 else backend.precision
        loaders[f"{name}, {number_format}"] = partial(load_ours, workload, pairs, backend)
    return loaders


def load_ours(workload: Workload, pairs: bool, backend: Backend) -> Scorer:
    """Load our model for a backend; int8 is calibrated on texts of the benchmark's collection."""
    if pairs:
        scorer = PairwiseScorer(PairScorer.from_pretrained(classifier(workload.path), backend.loaded_dtype))
    else:
        scorer = load_embedder(embedder(workload.path, workload.document_length), backend.loaded_dtype)
    sample = ()
    if backend.dtype == INT8:
        sample = list_sample(workload.lists(8)) if pairs else document_sample(workload.collection.documents)
    compile_scorer(scorer, backend, sample, workload.cache_dir)
    return scorer


@cache
def embedder(path: str, document_length: int) -> str:
    """Save a dual encoder on the benchmark's encoder, with the mean pooling that peers take; return its folder."""
    folder = tempfile.mkdtemp()
    model = DualEncoder.from_encoder(path, document_length=document_length, pooling="mean", normalize=True)
    model.save_pretrained(folder)
    load_tokenizer(path).save_pretrained(folder)
    return folder


@cache
def classifier(path: str) -> str:
    """Save an untrained teacher on the benchmark's encoder; return its folder."""
    folder = tempfile.mkdtemp()
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(path, num_labels=1).save_pretrained(folder)
    load_tokenizer(path).save_pretrained(folder)
    return folder
