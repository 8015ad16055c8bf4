"""Metrics of a finished run, by `ir_measures` (trec_eval's numbers), with ties taken out of its hands.

Libraries disagree on equal scores: some sort them by id upwards, some downwards, and a constant scorer can reach an
MRR of 1. Here every run is rewritten to ranks before it is measured: of documents with equal scores the least relevant
ranks first. Tied documents are counted.

Binary measures such as MRR and Recall count a document from `relevance_level` on (1 by default; the TREC Deep Learning
tracks use 2). nDCG uses the grades as they are.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from subprocess import CalledProcessError

import ir_measures

from m3se.trainers.data.readers.source import Qrels
from m3se.trainers.errors import InputError, first_line
from m3se.trainers.evaluation.runs import Run


MEASURES = ("MRR@10", "nDCG@10", "Recall@100")
EXPECTED = "MRR@K, nDCG@K, Recall@K, MAP, P@K or another name of ir_measures"
SPELLING = {"RR": "MRR", "R": "Recall", "AP": "MAP"}  # ir_measures' name → the field's; all others are the same


@dataclass
class Evaluation:
    """Means over all queries (`values`), and each query's own values.

    `ties` counts the documents that shared their score with another one of the same query.
    """

    values: dict[str, float]
    per_query: dict[str, dict[str, float]]  # query id → measure → value
    ties: int
    relevance_level: int = 1

    @property
    def queries(self) -> int:
        """Return the number of queries measured."""
        return len(self.per_query)


def evaluate_run(
    run: Run,
    qrels: Qrels,
    queries: Iterable[str] | None = None,
    measures: Sequence[str] = MEASURES,
    relevance_level: int = 1,
) -> Evaluation:
    """Measure `run` on `queries`.

    Every query is in the mean, with 0 when the run does not have it or none of its documents is relevant: what a
    candidate generator missed stays missed.

    Args:
        run: query id → document id → score.
        qrels: query id → document id → grade, a whole number.
        queries: ids of the queries to measure; None: all of `qrels`.
        measures: names as `parse_measures` takes them.
        relevance_level: grade from which binary measures count a document.

    Raises:
        InputError: there is no query, one has no judgment, a score is NaN, a grade is not a whole number, or a measure
            is not known.
    """
    names = parse_measures(measures, relevance_level)
    judged = judgments(qrels, queries)
    queries = list(judged)
    grades, ranked, per_query, ties = {}, {}, {}, 0
    for number, query in enumerate(queries):
        per_query[query] = dict.fromkeys(names.values(), 0.0)
        if scores := run.get(query):
            ties += tied_documents(scores.values())
            # Numbers in place of query ids: some providers of measures cannot read other ids.
            ranked[str(number)] = pessimistic_ranks(query, scores, judged[query])
            grades[str(number)] = judged[query]
    if ranked:
        for metric in ir_measures.iter_calc(list(names), grades, ranked):
            per_query[queries[int(metric.query_id)]][names[metric.measure]] = float(metric.value)
    values = {}
    for name in names.values():
        values[name] = math.fsum(row[name] for row in per_query.values()) / len(per_query)
    return Evaluation(values, per_query, ties, relevance_level)


def parse_measures(names: Sequence[str], relevance_level: int = 1) -> dict[ir_measures.measures.Measure, str]:
    """Parse measures of ir_measures, by its names or the field's: measure → name as the field spells it.

    Binary measures get `relevance_level`, unless their name says `(rel=N)`. Raises InputError for an unknown name.
    """
    measures = {}
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
        except (NameError, ValueError, SyntaxError) as error:
            raise InputError(f"unknown measure {name!r}; expected {EXPECTED} ({first_line(error)})") from error
        options = str(measure).removeprefix(measure.NAME)
        if "rel" in measure.params:
            options = re.sub(r"^\w+", "", name)  # as given: ir_measures leaves (rel=1) out
        elif is_binary(measure):
            measure = measure(rel=relevance_level)
        measures[measure] = SPELLING.get(measure.NAME, measure.NAME) + options
    return measures


def check_measures(names: Sequence[str], relevance_level: int = 1) -> None:
    """Raise InputError for a measure that is unknown, lacks its cut-off, or needs a package that is not installed."""
    for measure, name in parse_measures(names, relevance_level).items():
        if measure.params.get("cutoff", 1) < 1:
            raise InputError(f"unknown measure {name!r}; expected {EXPECTED}")
        try:
            list(ir_measures.iter_calc([measure], {"1": {"a": 1}}, {"1": {"a": 1.0}}))
        except (AssertionError, ValueError, OSError, CalledProcessError) as error:
            raise InputError(f"measure {name}: cannot be computed here: {' '.join(str(error).split())}") from error


def is_binary(measure: ir_measures.measures.Measure) -> bool:
    """Tell whether a measure counts documents from a grade on; others use the grades as they are."""
    return "rel" in measure.SUPPORTED_PARAMS


def judgments(qrels: Qrels, queries: Iterable[str] | None) -> dict[str, dict[str, int]]:
    """Return the judgments of `queries` with whole-number grades; those below 0 (TREC's mark for spam) become 0."""
    chosen = list(qrels) if queries is None else list(queries)
    if not chosen:
        raise InputError("there is no query to evaluate")
    result = {}
    for query in chosen:
        if not qrels.get(query):
            raise InputError(f"query {query} has no judgment, so it cannot be evaluated")
        grades = result[query] = {}
        for document, grade in qrels[query].items():
            if grade != int(grade):
                raise InputError(f"query {query}: the grade of document {document} is {grade}, not a whole number")
            grades[document] = max(int(grade), 0)
    return result


def pessimistic_ranks(query: str, scores: dict[str, float], judged: dict[str, int]) -> dict[str, float]:
    """Return new scores with the same order and no ties: n for the first of n documents, 1 for the last."""
    for document, score in scores.items():
        if math.isnan(score):
            raise InputError(f"query {query}: the score of document {document} is NaN")
    order = sorted(scores, key=lambda document: (-scores[document], judged.get(document, 0)))
    return {document: float(len(order) - rank) for rank, document in enumerate(order)}


def tied_documents(scores: Iterable[float]) -> int:
    """Count the scores that occur more than once."""
    return sum(count for count in Counter(scores).values() if count > 1)
