"""Models that another library than torch computes, as --backend and --dtype of the commands ask for it."""

import logging
from pathlib import Path

from m3se.run_scripts.cli.arguments import EmbedderArguments
from m3se.trainers.backends.choice import INT8, Backend, choose_backend
from m3se.trainers.backends.compiling import compile_scorer, refuse_other_kinds
from m3se.trainers.backends.samples import document_sample, held_out_lists, list_sample
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.evaluation.reranking import run_from_scores
from m3se.trainers.evaluation.run_metrics import Qrels, evaluate_run
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.loading import load_embedder, load_scorer
from m3se.trainers.retrieval.scorers import DenseScorer, Scorer


logger = logging.getLogger(__name__)

MEASURE = "nDCG@10"
COMPARED = 50  # held-out queries that are ranked in float32 and in int8


def load_searcher(arguments: EmbedderArguments, allow_colbert: bool = False) -> tuple[Scorer, Backend]:
    """Load the model of the options, still computed by torch, and say what is to compute it.

    Args:
        arguments: name the model.
        allow_colbert: take a ColBERT model too, not only one that embeds a text in one vector.

    Raises:
        InputError: the backend or the model cannot be used, or not together.
    """
    backend, info = choose_backend(arguments.backend, arguments.dtype), ModelInfo.read(arguments.model)
    load = load_scorer if allow_colbert and info.kind == "colbert" else load_embedder
    scorer = load(info, backend.loaded_dtype, arguments.pooling, backend.device)
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
