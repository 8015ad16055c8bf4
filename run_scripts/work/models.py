"""Models that commands name: checked, loaded, and computed by the library that --backend asks for."""

import logging
from itertools import chain
from pathlib import Path

import torch

from m3se.run_scripts.cli.arguments import EmbedderArguments
from m3se.trainers.backends.choice import INT8, Backend, choose_backend
from m3se.trainers.backends.compiling import compile_scorer, refuse_other_kinds
from m3se.trainers.backends.samples import document_sample, held_out_lists, list_sample
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.devices import choose_dtype
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.reranking import run_from_scores
from m3se.trainers.evaluation.run_metrics import Qrels, evaluate_run
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.loading import check_kind, load_embedder, load_scorer
from m3se.trainers.retrieval.scorers import DenseScorer, PairwiseScorer, Scorer
from m3se.trainers.teacher.cross_fitting import fold_folders
from m3se.trainers.teacher.loading import load_teacher
from m3se.trainers.teacher.templates import judges


logger = logging.getLogger(__name__)

MEASURE = "nDCG@10"
COMPARED = 50  # held-out queries that are ranked in float32 and in int8


def check_models(models: list[str], dtype: str, pooling: str | None, template: str | None = None) -> list[ModelInfo]:
    """Read what each model is. Raises InputError, as far as files tell, for one that cannot be loaded."""
    choose_dtype(dtype, "cpu")
    folders = chain.from_iterable(fold_folders(model) or [model] for model in models)
    infos = list(map(ModelInfo.read, folders))
    for info in infos:
        check_kind(info, own_pooling(info, pooling, template), template)
    if template is not None and not any(info.generates for info in infos):
        raise InputError("--template is for language models; none of these models is one")
    if pooling is not None and all(info.kind != "encoder" for info in infos):
        raise InputError("--pooling is for bare encoders; each of these models has its own")
    return infos


def load(
    model: str, dtype: str, pooling: str | None, template: str | None = None, device: torch.device | None = None
) -> Scorer:
    """Load a scorer, passing `pooling` only to a bare encoder; the folds of a teacher score as one.

    Args:
        model, dtype, pooling, template, device: those of `load_scorer`.
    """
    if fold_folders(model):
        return PairwiseScorer(load_teacher(model, dtype, device=device))
    info = ModelInfo.read(model)
    return load_scorer(info, dtype, own_pooling(info, pooling, template), device, template)


def own_pooling(info: ModelInfo, pooling: str | None, template: str | None = None) -> str | None:
    """Return the pooling for a bare encoder, None for a model that has one or reads both texts at once."""
    return pooling if info.kind == "encoder" and not judges(info, template) else None


def load_searcher(arguments: EmbedderArguments, allow_colbert: bool = False) -> tuple[Scorer, Backend]:
    """Load the model of the options, still computed by torch, and say what is to compute it.

    Args:
        arguments: name the model.
        allow_colbert: take a ColBERT model too, not only one that embeds a text in one vector.

    Raises:
        InputError: the backend or the model cannot be used, or not together.
    """
    backend, info = choose_backend(arguments.backend, arguments.dtype), ModelInfo.read(arguments.model)
    loader = load_scorer if allow_colbert and info.kind == "colbert" else load_embedder
    scorer = loader(info, backend.loaded_dtype, arguments.pooling, backend.device)
    refuse_other_kinds(scorer, backend)
    return scorer, backend


def compile_searcher(scorer: Scorer, backend: Backend, documents: DocumentTable, cache_dir: str | Path) -> None:
    """Let the backend compute a model that embeds `documents`, and report how far int8 is from float32."""
    sample = document_sample(documents) if backend.dtype == INT8 else ()
    loss = compile_scorer(scorer, backend, sample, cache_dir)
    if loss is not None:
        logger.info("int8 beside float32: %s", loss)


def compile_ranker(scorer: Scorer, backend: Backend, lists: RankingLists, qrels: Qrels, cache_dir: str | Path) -> dict:
    """Let the backend compute a ranker, and measure what int8 costs it in nDCG@10 on queries it was not calibrated on.

    Args:
        scorer: is changed.
        backend: the library and number format.
        lists: what will be ranked, or lists like it.
        qrels: the judgments.
        cache_dir: where files are kept.

    Returns:
        Entries of metrics.json: `backend`, and `int8` with both values and what `Loss` has; none for torch.
    """
    if backend.is_torch:
        return {}
    if backend.dtype != INT8:
        compile_scorer(scorer, backend, cache_dir=cache_dir)
        return {"backend": backend.name}
    sample = document_sample(lists.documents) if isinstance(scorer, DenseScorer) else list_sample(lists)
    held_out = held_out_lists(lists, COMPARED)
    exact = mean_measure(scorer, held_out, qrels)
    loss = compile_scorer(scorer, backend, sample, cache_dir)
    measured = {"queries_compared": len(held_out.rows), MEASURE: mean_measure(scorer, held_out, qrels)}
    facts = loss.as_dict() | measured | {f"float32_{MEASURE}": exact}
    return {"backend": backend.name, "int8": facts}


def mean_measure(scorer: Scorer, lists: RankingLists, qrels: Qrels) -> float:
    """Return nDCG@10 of a scorer on lists."""
    run = run_from_scores(lists, scorer.score_lists(lists, progress=False))
    return evaluate_run(run, qrels, list(run), [MEASURE]).values[MEASURE]


def describe_int8(name: str, facts: dict) -> str:
    """Say in one line what int8 cost the model of this name; `facts` are those of `compile_ranker`."""
    measured = facts["int8"]
    values = f"{MEASURE} {measured[MEASURE]:.4f}, in float32 {measured[f'float32_{MEASURE}']:.4f}"
    order = f"Kendall τ of the two orders {measured['kendall_tau']:.3f}"
    return f"{name} in int8: {values}, on {measured['queries_compared']} held-out queries; {order}"
