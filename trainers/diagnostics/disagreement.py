"""Queries and documents on which two models disagree, as tables to be read: Tables 3, 10 and 11 of the paper."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from m3se.trainers.diagnostics.quantities import groups
from m3se.trainers.diagnostics.scored_lists import ScoredLists
from m3se.trainers.evaluation.markdown import escaped, table


WORD = re.compile(r"\w+")
SHOWN = 300  # characters of a document


@dataclass
class Pair:
    """A query and a document that one model scores low and the other high.

    `gap` is the distance of the two scores in standard deviations of each model, `overlap` the share of the query's
    words that the document has.
    """

    query: str
    document_id: str
    document: str
    label: float
    low: float
    high: float
    gap: float
    overlap: float


def largest_disagreements(
    low: np.ndarray, high: np.ndarray, labels: np.ndarray, rows: np.ndarray, count: int
) -> list[int]:
    """Find negatives that `low` scores low and `high` scores high: their places, the largest gap first, one per query.

    Models have scales of their own, so scores are compared as distances from the model's mean in its own standard
    deviations.

    Args:
        low, high: scores of two models [n].
        labels: of the documents [n].
        rows: the number of each document's list [n].
        count: places to return, at most.
    """
    gaps = score_gaps(low, high)
    best = []
    for part in groups(rows):
        negatives = part[labels[part] <= 0]
        if len(negatives):
            best.append(int(negatives[gaps[negatives].argmax()]))
    return sorted(best, key=lambda place: -gaps[place])[:count]


def disagreeing_pairs(scored: ScoredLists, low: str, high: str, count: int) -> list[Pair]:
    """Return the largest disagreements of two models with their texts.

    Args:
        scored: the scores of both.
        low, high: names of the model that scores low and of the one that scores high.
        count: pairs to return, at most.
    """
    first, second = scored.scores[low], scored.scores[high]
    gaps, pairs = score_gaps(first, second), []
    for place in largest_disagreements(first, second, scored.labels, scored.rows, count):
        query, text = scored.query(place), scored.text(place)
        values = float(scored.labels[place]), float(first[place]), float(second[place]), float(gaps[place])
        pairs.append(Pair(query, scored.document_ids[place], text, *values, token_overlap(query, text)))
    return pairs


def score_gaps(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return standardised `high` minus standardised `low` [n]."""
    return standardised(high) - standardised(low)


def standardised(scores: np.ndarray) -> np.ndarray:
    """Return the scores less their mean, in standard deviations."""
    spread = scores.std()
    return (scores - scores.mean()) / (spread if spread > 0 else 1.0)


def token_overlap(query: str, document: str) -> float:
    """Return the share of the query's distinct words, in lower case, that the document has; 0 without words."""
    words = set(WORD.findall(query.lower()))
    return len(words & set(WORD.findall(document.lower()))) / len(words) if words else 0.0


def disagreement_table(pairs: Iterable[Pair], low: str, high: str) -> str:
    """Return Table 3 as Markdown: pairs that model `low` scores low and model `high` scores high."""
    header = ["query", "document", "relevant", f"{low} score", f"{high} score", "gap in σ", "query words found"]
    lines = [header]
    for pair in pairs:
        numbers = [f"{pair.low:.2f}", f"{pair.high:.2f}", f"{pair.gap:.1f}", f"{pair.overlap:.0%}"]
        lines.append([cell(pair.query), cell(pair.document), mark(pair.label), *numbers])
    return left_table(lines)


def queries_apart(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, rows: np.ndarray, count: int
) -> list[np.ndarray]:
    """Find the `count` queries whose reciprocal ranks under two models differ most, half of them in favour of each.

    Args:
        first, second: scores of the models [n].
        labels: of the documents [n].
        rows: the number of each document's list [n].
        count: queries to return, at most; more in favour of one model where there are too few for the other.

    Returns:
        The places of each query's documents.
    """
    parts, differences = list(groups(rows)), []
    for part in parts:
        differences.append(reciprocal_rank(second[part], labels[part]) - reciprocal_rank(first[part], labels[part]))
    order = np.argsort(differences, kind="stable")
    ordered = np.array(differences)[order]
    worse, better = order[ordered < 0], order[ordered > 0][::-1]
    number_better = min(len(better), max(count - len(worse), count // 2))
    return [parts[index] for index in [*better[:number_better], *worse[: count - number_better]]]


def reciprocal_rank(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return 1 / rank of the first positive, ties broken against it; 0 without one."""
    order = np.lexsort((labels, -scores))
    hits = np.flatnonzero(labels[order] > 0)
    return 1.0 / (hits[0] + 1) if len(hits) else 0.0


def side_by_side(
    query: str, names: tuple[str, str], tops: tuple[Sequence[tuple[str, float]], Sequence[tuple[str, float]]]
) -> str:
    """Return Tables 10 and 11 as Markdown: the best documents, (text, label) each, of two models for one query."""
    lines = [["rank", *names]]
    for rank, documents in enumerate(zip(*tops, strict=True), start=1):
        cells = [f"{mark(label)} {cell(text)}".strip() for text, label in documents]
        lines.append([str(rank), *cells])
    return f"### {cell(query)}\n\n{left_table(lines)}"


def mark(label: float) -> str:
    """Return the mark of a document that is judged relevant."""
    return f"✔ ({label:g})" if label > 0 else ""


def cell(text: str) -> str:
    """Return text on one line, shortened, without what Markdown would take for markup."""
    text = " ".join(text.split())
    shown = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    return escaped(shown)


def left_table(rows: list[list[str]]) -> str:
    """Return a table with all columns on the left and a line break at its end; the first row is the header."""
    return table(rows[0], rows[1:], text_columns=len(rows[0])) + "\n"
