"""Rankers on held-out queries: re-ranking the candidates, or searching the whole collection.

Queries with judgments are measured by them; where there are none, by agreement with the teacher.
"""

import json
import math
from dataclasses import dataclass

import numpy as np

from m3se.run_scripts.retriever.options import QUERIES, RetrieverArguments
from m3se.trainers.data import RankingLists
from m3se.trainers.evaluation.markdown import escaped, table
from m3se.trainers.evaluation.reranking import run_from_scores
from m3se.trainers.evaluation.run_metrics import Evaluation, Qrels, evaluate_run
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.evaluation.significance import bootstrap_interval, randomisation_test
from m3se.trainers.evaluation.teacher_gains import METRIC, teacher_gains, teacher_ndcg
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.retrieval.search import encoded_scores


MEASURE = "nDCG@10"
MEASURES = (MEASURE, "MRR@10")
AGREEMENT = METRIC.format(10)


@dataclass(frozen=True)
class Difference:
    """The mean difference of two systems on the same queries, its 95% interval, and the p-value of a paired test."""

    mean: float
    low: float
    high: float
    p: float

    @property
    def is_better(self) -> bool:
        """Tell whether the first system is better than the second, and not by chance."""
        return self.mean > 0 and self.p < 0.05

    def __str__(self) -> str:
        p = "p < .001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}], {p}"


def difference(first: Evaluation, second: Evaluation, measure: str = MEASURE) -> Difference:
    """Compare two systems on the queries of both: first minus second."""
    queries = sorted(first.per_query)
    values = []
    for evaluation in (first, second):
        values.append(np.array([evaluation.per_query[query][measure] for query in queries]))
    differences = values[0] - values[1]
    return Difference(float(differences.mean()), *bootstrap_interval(differences), randomisation_test(*values))


def read_qrels(arguments: RetrieverArguments, part: str) -> Qrels | None:
    """Return the judgments of a part's queries, None where nothing is judged."""
    return json.loads((arguments.folder / f"qrels.{part}.json").read_text(encoding="utf-8")) or None


def describe_queries(arguments: RetrieverArguments, count: int) -> str:
    """Say how many held-out queries there are, and if they were made of the documents."""
    queries = json.loads((arguments.folder / QUERIES).read_text(encoding="utf-8"))
    return f"{count} held-out queries{', made of the documents' if queries['held_out_are_synthetic'] else ''}"


def encoded_run(scorer: DenseScorer, encoded: EmbeddedCollection, lists: RankingLists) -> Run:
    """Rank the documents of lists by the embeddings that their collection has already."""
    scores = list(encoded_scores(scorer, encoded, lists.documents, lists.rows))
    return run_from_scores(lists, scores)


def teacher_run(lists: RankingLists) -> Run:
    """Return the teacher's ranking of scored lists; documents without a score stand at the end."""
    run: Run = {}
    for row in lists.rows:
        scores = np.asarray(row["teacher_scores"], dtype=np.float64)
        scores = np.where(np.isnan(scores), -np.inf, scores).tolist()
        run[row["query_id"]] = dict(zip(row["document_ids"], scores, strict=True))
    return run


def evaluate(
    arguments: RetrieverArguments, runs: dict[str, Run], qrels: Qrels | None, lists: RankingLists
) -> dict[str, Evaluation]:
    """Measure runs by judgments, or by agreement with the teacher where there are none.

    Args:
        arguments: say from which grade a document is relevant.
        runs: by the name of their system.
        qrels: the judgments.
        lists: the same queries with teacher scores.
    """
    if qrels is not None:
        options = None, MEASURES, arguments.relevance_level
        return {name: evaluate_run(run, qrels, *options) for name, run in runs.items()}
    gains = teacher_gains(lists)
    evaluations = {}
    for name, run in runs.items():
        per_query = {query: {MEASURE: value} for query, value in teacher_ndcg(run, gains).items()}
        mean = math.fsum(values[MEASURE] for values in per_query.values()) / len(per_query)
        evaluations[name] = Evaluation({MEASURE: mean}, per_query, ties=0)
    return evaluations


def rows(evaluations: dict[str, Evaluation], task: str, is_judged: bool) -> list[list[str]]:
    """Return the cells of a table: system, task, and every measure with its interval."""
    cells = []
    for name, evaluation in evaluations.items():
        row = [escaped(name), task]
        for measure in MEASURES if is_judged else MEASURES[:1]:
            values = np.array([query[measure] for query in evaluation.per_query.values()])
            low, high = bootstrap_interval(values)
            row.append(f"{evaluation.values[measure]:.3f} [{low:.3f}, {high:.3f}]")
        cells.append(row)
    return cells


def results_table(cells: list[list[str]], is_judged: bool) -> str:
    """Return a table of `rows`."""
    measures = list(MEASURES) if is_judged else [AGREEMENT]
    return table(["system", "task", *measures], cells, text_columns=2)
