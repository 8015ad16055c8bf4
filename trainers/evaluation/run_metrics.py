"""Metrics of a finished run, by `ir_measures` (trec_eval's numbers), with ties taken out of its hands.

Libraries disagree on equal scores: some sort them by id upwards, some downwards, and a constant scorer can reach an
MRR of 1. Here every run is rewritten to ranks before it is measured: of documents with equal scores the least relevant
ranks first. How many documents were tied is counted.

MRR and Recall are binary: a document counts from `relevance_level` on (1 by default; the TREC Deep Learning tracks use
2). nDCG uses the grades as they are.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ir_measures

from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import Run


Qrels = dict[str, dict[str, float]]  # query id → document id → relevance
MEASURES = ("MRR@10", "nDCG@10", "Recall@100")
IR_MEASURES_NAMES = {"MRR": "RR(rel={level})@{k}", "nDCG": "nDCG@{k}", "Recall": "R(rel={level})@{k}"}


@dataclass
class Evaluation:
    """Means over all queries (`values`), each query's own values, and how many documents shared their score with
    another one of the same query (`ties`)."""

    values: dict[str, float]
    per_query: dict[str, dict[str, float]]  # query id → measure → value
    ties: int
    relevance_level: int = 1

    @property
    def queries(self) -> int:
        return len(self.per_query)


def evaluate_run(
    run: Run,
    qrels: Qrels,
    queries: Iterable[str] | None = None,
    measures: Sequence[str] = MEASURES,
    relevance_level: int = 1,
) -> Evaluation:
    """Measure `run` on `queries` (default: all of `qrels`).

    Every one of them is in the mean, with 0 when the run does not have it or none of its documents is relevant: what a
    candidate generator missed stays missed. Raises InputError when there is no query, one has no judgment, a score is
    NaN, a grade is not a whole number, or a measure is not known.
    """
    asked = parse_measures(measures, relevance_level)
    judged = judgments(qrels, queries)
    ties = sum(tied_documents(run.get(query, {}).values()) for query in judged)
    ranked = {query: pessimistic_ranks(query, run[query], judged[query]) for query in judged if run.get(query)}
    per_query = {query: dict.fromkeys(measures, 0.0) for query in judged}
    if ranked:
        for metric in ir_measures.iter_calc(list(asked), judged, ranked):
            per_query[metric.query_id][asked[metric.measure]] = float(metric.value)
    values = {name: math.fsum(row[name] for row in per_query.values()) / len(per_query) for name in measures}
    return Evaluation(values, per_query, ties, relevance_level)


def parse_measures(names: Sequence[str], relevance_level: int = 1) -> dict[ir_measures.measures.Measure, str]:
    """Measures of ir_measures by our names (`MRR@10`, `nDCG@10`, `Recall@100`) -> name. Raises InputError."""
    parsed = {}
    for name in names:
        family, _, cutoff = name.partition("@")
        if family not in IR_MEASURES_NAMES or not cutoff.isdecimal() or int(cutoff) < 1:
            known = ", ".join(f"{family}@K" for family in IR_MEASURES_NAMES)
            raise InputError(f"unknown measure {name!r}; expected {known}, with a whole number K")
        text = IR_MEASURES_NAMES[family].format(level=relevance_level, k=int(cutoff))
        parsed[ir_measures.parse_measure(text)] = name
    return parsed


def judgments(qrels: Qrels, queries: Iterable[str] | None) -> dict[str, dict[str, int]]:
    """Judgments of `queries` with whole-number grades; below 0 (TREC's mark for spam) means not relevant."""
    chosen = list(qrels) if queries is None else list(queries)
    if not chosen:
        raise InputError("there is no query to evaluate")
    result = {}
    for query in chosen:
        if not qrels.get(query):
            raise InputError(f"query {query} has no judgment, so it cannot be evaluated")
        for document, grade in qrels[query].items():
            if grade != int(grade):
                raise InputError(f"query {query}: the grade of document {document} is {grade}, not a whole number")
        result[query] = {document: max(int(grade), 0) for document, grade in qrels[query].items()}
    return result


def pessimistic_ranks(query: str, scores: dict[str, float], judged: dict[str, int]) -> dict[str, float]:
    """New scores with the same order and no ties: n for the first of n documents, 1 for the last."""
    for document, score in scores.items():
        if math.isnan(score):
            raise InputError(f"query {query}: the score of document {document} is NaN")
    order = sorted(scores, key=lambda document: (-scores[document], judged.get(document, 0)))
    return {document: float(len(order) - rank) for rank, document in enumerate(order)}


def tied_documents(scores: Iterable[float]) -> int:
    """How many of the scores occur more than once."""
    return sum(count for count in Counter(scores).values() if count > 1)
