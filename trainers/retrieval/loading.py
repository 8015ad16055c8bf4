"""Scorers for the models of folders and Hub ids, by the kind that their files tell."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from m3se.modeling.checkpoints import DOCUMENT_TOWER
from m3se.modeling.colbert import ColBERT
from m3se.modeling.dual_encoder import POOLINGS, DualEncoder
from m3se.trainers.devices import choose_dtype, default_device
from m3se.trainers.errors import InputError, first_line
from m3se.trainers.models.inspection import inspect_model, load_tokenizer
from m3se.trainers.models.model_info import ModelInfo, tower_folder
from m3se.trainers.retrieval.embed_texts import Tower, encode_texts
from m3se.trainers.retrieval.paired_scorer import PairedScorer
from m3se.trainers.retrieval.scorers import ColBERTScorer, DenseScorer, PairwiseScorer, Scorer
from m3se.trainers.teacher.fingerprint import config_description, embedder_fingerprint, tokenizer_description
from m3se.trainers.teacher.judge import Judge
from m3se.trainers.teacher.pair_scorer import KINDS, PairScorer
from m3se.trainers.teacher.templates import judges


EMBEDDERS = ("dual_encoder", "sentence_transformers", "static", "encoder")  # kinds that embed a text in one vector
UNSUPPORTED = ("sparse", "multi_vector")  # models of sentence-transformers that score in other ways
# Errors of the libraries below for files that do not fit together, or that need code or packages that are not there.
LOAD_ERRORS = (ImportError, KeyError, OSError, RuntimeError, SafetensorError, StrictDataclassError, ValueError)


def load_scorer(
    model: str | Path | ModelInfo,
    dtype: str = "auto",
    pooling: str | None = None,
    device: str | torch.device | None = None,
    template: str | None = None,
) -> Scorer:
    """Load a model as an object that embeds, scores and ranks plain texts.

    The model is a checkpoint or published folder of ours, or any classifier, sentence-transformers or AutoModel
    checkpoint, or a language model that answers whether a document is relevant. It is tried on two short texts
    before it is returned.

        >>> scorer = load_scorer("org/de-m3se")
        >>> scorer.encode(["how tall is a giraffe"], "query").shape
        (1, 768)
        >>> scorer.score("how tall is a giraffe", ["Giraffes are 5 m tall.", "Ostriches lay eggs."])
        [91.4, 78.2]
        >>> scorer.rank("how tall is a giraffe", ["Giraffes are 5 m tall.", "Ostriches lay eggs."], top_k=1)
        [Ranked(index=0, score=91.4, text='Giraffes are 5 m tall.')]

    Args:
        model: folder or Hub id, or what `ModelInfo.read` found there.
        dtype: "float32", "bfloat16" (by autocast) or "auto": bfloat16 where the processor multiplies in it.
        pooling: "cls", "mean" or "last", for a bare encoder, which does not know it itself.
        device: the processor to run on (default: a GPU if there is one).
        template: prompt of a language model, a name or a file (default: its own, or the one built in for its name).

    Raises:
        InputError: no such model, a kind that is not supported, or files that cannot be used together.
    """
    info = model if isinstance(model, ModelInfo) else ModelInfo.read(model)
    check_kind(info, pooling, template)
    device = torch.device(device or default_device())
    compute = choose_dtype(dtype, device)
    try:
        if info.kind in ("sentence_transformers", "static"):
            return load_sentence_transformer(info, device, compute)
        if info.kind == "colbert":
            return load_colbert(info, device, compute)
        if info.kind == "cross_encoder":
            return PairwiseScorer(PairScorer.from_pretrained(info, dtype, device=device))
        if pooling is None and judges(info, template):
            return PairwiseScorer(Judge.from_pretrained(info, dtype, device=device, template=template))
        return load_dual_encoder(info, pooling, device, compute)
    except (InputError, torch.OutOfMemoryError):
        raise
    except LOAD_ERRORS as error:
        raise InputError(f"{info.name}: cannot be loaded as a {info.kind} model: {first_line(error)}") from error


def load_embedder(
    model: str | Path | ModelInfo,
    dtype: str = "auto",
    pooling: str | None = None,
    device: str | torch.device | None = None,
) -> DenseScorer:
    """Load a model that embeds a text in one vector, as `load_scorer` does. Raises InputError for any other."""
    info = model if isinstance(model, ModelInfo) else ModelInfo.read(model)
    if info.kind not in EMBEDDERS:
        raise InputError(f"{info.name} is {KINDS[info.kind]}; expected a model that embeds a text in one vector")
    return load_scorer(info, dtype, pooling, device)


def check_kind(info: ModelInfo, pooling: str | None, template: str | None = None) -> None:
    """Raise InputError for a kind of model that cannot score, and for a pooling where none or another is needed."""
    if info.kind in UNSUPPORTED:
        raise InputError(f"{info.name} is {KINDS[info.kind]}; such models cannot be scored here")
    if pooling not in (None, *POOLINGS):
        raise InputError(f"--pooling: expected {', '.join(POOLINGS)}, got {pooling!r}")
    if info.kind == "encoder" and pooling is None and not judges(info, template):
        judged = ", or give the prompt of a language model with --template" if info.generates else ""
        raise InputError(
            f"{info.name} is a bare encoder: say how to pool its tokens with --pooling cls, mean or last{judged}"
        )
    if info.kind != "encoder" and pooling is not None:
        raise InputError(f"{info.name} is a {info.kind} model and has its own pooling; leave --pooling out")


def load_dual_encoder(info: ModelInfo, pooling: str | None, device: torch.device, dtype: torch.dtype) -> DenseScorer:
    """Load a dual encoder of ours, or a bare encoder with a pooling."""
    if info.kind == "encoder":
        model = DualEncoder.from_encoder(info.name, pooling=pooling)
    else:
        model = DualEncoder.from_pretrained(info.name)
    model, tokenizer = model.to(device).eval(), load_tokenizer(info.name)
    description = config_description(model.config), tokenizer_description(tokenizer)
    model.config.document_length = min(model.config.document_length, info.positions)
    inspect_model(model, tokenizer, info.name)

    sides = ["query"] if model.config.tied else ["query", "document"]
    towers = SimpleNamespace(**{side: Tower(model, side) for side in sides})

    def embed(texts, side, bar=None):
        """Embed texts with the model and its tokenizer."""
        tower = towers.query if model.config.tied else getattr(towers, side)
        return encode_texts(model, tokenizer, texts, side, dtype, bar, tower)

    fingerprint = embedder_fingerprint(model, *description, str(dtype))
    transformers = [(model, name) for name in ["encoder", "document_encoder"][: len(sides)]]
    slots = [(towers, side) for side in sides]
    scorer = DenseScorer(embed, fingerprint, device, model.reached_scale(), slots, transformers)
    other = model.config.document_model
    if other is None:
        return scorer
    document_fingerprint = other["fingerprints"].get(str(dtype))
    return PairedScorer(scorer, partial(load_documents, info.name, other, dtype, device), document_fingerprint)


def load_documents(name: str, other: dict, dtype: torch.dtype, device: torch.device) -> DenseScorer:
    """Load the model that embeds the documents of a query encoder: from its published folder, or where it came from.

    Args:
        name: folder or Hub id of the query encoder.
        other: its config's `document_model`.
        dtype, device: as for the query encoder.

    Raises:
        InputError: the model is not there, or is no longer the one whose documents the queries were trained for.
    """
    published = tower_folder(name, DOCUMENT_TOWER)
    scorer = load_embedder(published or other["name"], str(dtype).removeprefix("torch."), device=device)
    fingerprint = other["fingerprints"].get(str(dtype))
    if published:  # the same weights, perhaps in another layout
        scorer.fingerprint = fingerprint or scorer.fingerprint
    elif fingerprint not in (None, scorer.side_fingerprint("document")):
        raise InputError(
            f"{name}: its documents are those of {other['name']}, which has changed since the queries were trained "
            "(its weights, config or tokenizer)"
        )
    return scorer


def load_colbert(info: ModelInfo, device: torch.device, dtype: torch.dtype) -> ColBERTScorer:
    """Load a ColBERT model of ours or in a layout that ours reads."""
    model, tokenizer = ColBERT.from_pretrained(info.name).to(device).eval(), load_tokenizer(info.name)
    inspect_model(model, tokenizer, info.name)
    description = config_description(model.config), tokenizer_description(tokenizer), str(dtype)
    fingerprint = embedder_fingerprint(model, *description, model.reached_scale())
    return ColBERTScorer(model, tokenizer, dtype, fingerprint)


def count_batch(bar: tqdm, module: nn.Module, inputs: tuple, outputs: dict) -> None:
    """Advance a bar by the texts of a batch; a forward hook of the last module of a sentence-transformers model."""
    bar.update(len(outputs["sentence_embedding"]))


def load_sentence_transformer(info: ModelInfo, device: torch.device, dtype: torch.dtype) -> DenseScorer:
    """Load a model as its authors ship it: own pooling, prompts, lengths and similarity (dot or cosine)."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Transformer
    except ImportError as error:
        raise InputError(f"{info.name} needs sentence-transformers: pip install sentence-transformers") from error
    options = {"use_safetensors": True, "dtype": torch.float32}
    model = SentenceTransformer(info.name, device=str(device), model_kwargs=options)
    if model.similarity_fn_name not in ("cosine", "dot"):
        raise InputError(f"{info.name} compares by {model.similarity_fn_name}; expected cosine or dot")
    settings = {"normalize_embeddings": model.similarity_fn_name == "cosine", "show_progress_bar": False}

    def embed(texts, side, bar=None, dtype=dtype):
        """Embed texts with the prompts of their side."""
        encode_side = model.encode_query if side == "query" else model.encode_document
        counting = nullcontext() if bar is None else model[-1].register_forward_hook(partial(count_batch, bar))
        with counting, torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return encode_side(list(texts), **settings).astype("float32")

    if isinstance(model.tokenizer, PreTrainedTokenizerBase) and model.transformers_model is not None:
        probe = partial(embed, side="document", dtype=torch.float32)
        inspect_model(model.transformers_model, model.tokenizer, info.name, probe)
    description = repr(model), model.prompts, model.similarity_fn_name, tokenizer_description(model.tokenizer)
    transformers = [module for module in model.modules() if isinstance(module, Transformer)]
    slots = [(module, "model") for module in transformers]
    return DenseScorer(embed, embedder_fingerprint(model, *description, str(dtype)), device, slots=slots)
