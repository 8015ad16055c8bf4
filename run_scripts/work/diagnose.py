"""The paper's figures for any models, with the numbers behind them."""

import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from m3se.run_scripts.diagnose import DiagnosisArguments
from m3se.run_scripts.diagnosis import sections
from m3se.run_scripts.diagnosis.report import Report
from m3se.run_scripts.work.candidates import find_candidates
from m3se.run_scripts.work.models import check_models, load
from m3se.trainers.data import hash_subset, lists_relevant_from
from m3se.trainers.diagnostics import quantities as diagnostics
from m3se.trainers.diagnostics.scored_lists import ScoredLists, scored_lists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.markdown import escaped
from m3se.trainers.evaluation.reranking import Candidates, run_from_scores
from m3se.trainers.evaluation.run_metrics import evaluate_run
from m3se.trainers.models.model_info import ModelInfo


logger = logging.getLogger(__name__)


def main(arguments: DiagnosisArguments) -> None:
    """Score the lists with every model and write the report."""
    models, stages, sizes = map(named_folders, (arguments.model, arguments.stage, arguments.size))
    check(arguments, models, stages, sizes)
    splits = {"dev": judged_candidates(arguments)}
    if arguments.train_split != "none":
        options = {"split": arguments.train_split, "candidates": "bm25", "qrels": None}
        splits["train"] = judged_candidates(replace(arguments, **options))
    scores = score_models(arguments, models + sizes, splits)
    scored = {}
    for split, candidates in splits.items():
        lists = scored[split] = scored_lists(candidates.lists, scores_for_split(scores, models, split))
        if not any(diagnostics.pairs_of_lists(lists.labels, lists.labels, lists.rows)):
            raise InputError(f"{split}: no query has both a relevant and another document among its candidates")
    names = {"dev": arguments.split, "train": arguments.train_split}
    report = Report(Path(arguments.output), Path(arguments.data).name, list(dict(models)), names)
    sections.learning_curves(report, models)
    if sizes and "train" in splits:
        queries = {"dev": len(splits["dev"].qrels), "train": len(splits["train"].qrels)}
        sections.embedding_sizes(
            report, size_points(models + sizes, splits, scores, arguments.relevance_level), queries
        )
    for split, lists in scored.items():
        sections.distributions(report, lists, split)
    if stages:
        dev = {"dev": splits["dev"]}
        earlier = score_models(arguments, stages, dev)
        all_stages = scores_for_split(earlier, stages, "dev") | scores_for_split(scores, models, "dev")
        sections.stage_distributions(report, scored_lists(splits["dev"].lists, all_stages))
    sections.margins(report, scored["dev"])
    sections.calibration(report, scored["dev"])
    sections.disagreements(report, scored["dev"], arguments.top)
    sections.side_by_side(report, scored["dev"])
    sections.capacity(report, models[0][0], score_matrix(arguments, models[0][1], scored["dev"]))
    sections.gradient_ratios(report, scored["dev"])
    print(report.write())


def named_folders(options: list[str]) -> list[tuple[str, str]]:
    """Split NAME=FOLDER options into pairs. Raises InputError for what is none."""
    pairs = []
    for text in options:
        name, _, folder = text.partition("=")
        if not name or not folder:
            raise InputError(f"expected NAME=FOLDER, got {text!r}")
        if escaped(name) != name:
            raise InputError(f"expected a NAME without Markdown's signs, got {name!r}")
        pairs.append((name, folder))
    return pairs


def check(arguments: DiagnosisArguments, models: list, stages: list, sizes: list) -> None:
    """Find mistakes before anything is scored."""
    names = [name for name, _ in models]
    if len(models) < 2 or len(set(names)) < len(names):
        raise InputError(f"--model: expected a teacher and at least one student with names of their own, got {names}")
    for name in names:
        if "@" in name:
            raise InputError(f"--model: a name cannot have an @, which --stage needs; got {name!r}")
    for stage, _ in stages:
        name, separator, _ = stage.partition("@")
        if not separator or name not in names:
            raise InputError(f"--stage: expected NAME@STEP=FOLDER with a NAME of {', '.join(names)}, got {stage!r}")
    values = asdict(arguments)
    for name in ("depth", "max_queries", "capacity_queries", "capacity_documents", "top"):
        if values[name] < 1:
            raise InputError(f"--{name}: expected at least 1, got {values[name]}")
    _, folders = zip(*models, *stages, *sizes, strict=True)
    check_models(list(folders), arguments.dtype, arguments.pooling)


def judged_candidates(arguments: DiagnosisArguments) -> Candidates:
    """Find candidates whose labels are above 0 only from `--relevance_level` on."""
    candidates = find_candidates(arguments)
    return replace(candidates, lists=lists_relevant_from(candidates.lists, arguments.relevance_level))


def score_models(
    arguments: DiagnosisArguments, models: list[tuple[str, str]], splits: dict[str, Candidates]
) -> dict[tuple[str, str], dict[str, list[list[float]]]]:
    """Return model → split → scores of its lists."""
    scores = {}
    for model in models:
        logger.info("scoring with %s", model[1])
        scorer = load(model[1], arguments.dtype, arguments.pooling)
        scores[model] = {split: scorer.score_lists(candidates.lists) for split, candidates in splits.items()}
    return scores


def scores_for_split(scores: dict, models: list[tuple[str, str]], split: str) -> dict[str, list[list[float]]]:
    """Return name → scores of one split."""
    return {name: scores[name, folder][split] for name, folder in models}


def size_points(
    models: list[tuple[str, str]], splits: dict[str, Candidates], scores: dict, relevance_level: int
) -> dict[str, dict]:
    """Return name → embedding sizes, and the measure on both splits at each."""
    points: dict[str, dict[str, list]] = {}
    for name, folder in models:
        values = points.setdefault(name, {"size": [], "train": [], "dev": []})
        values["size"].append(ModelInfo.read(folder).width)
        for split, candidates in splits.items():
            ranked = run_from_scores(candidates.lists, scores[name, folder][split])
            evaluation = evaluate_run(ranked, candidates.qrels, relevance_level=relevance_level)
            values[split].append(evaluation.values[sections.MEASURE])
    return points


def score_matrix(arguments: DiagnosisArguments, folder: str, scored: ScoredLists) -> np.ndarray:
    """Score [B, N] some queries with documents that are candidates of some of them."""
    names = list(map(str, set(scored.rows)))
    rows = sorted(map(int, hash_subset(names, arguments.capacity_queries)))
    queries = scored.lists.rows[rows]["query"]
    candidates = list(dict.fromkeys(scored.document_ids[np.isin(scored.rows, rows)]))
    documents = sorted(hash_subset(candidates, arguments.capacity_documents))
    scorer = load(folder, arguments.dtype, arguments.pooling)
    matrix = scorer.score_matrix(queries, scored.lists.documents.texts(documents))
    return matrix[:, np.isfinite(matrix).all(axis=0)]
