"""What the columns of a Hub data set say it holds. Names are compared without case, with - and _ alike."""

import math
from collections.abc import Iterator
from typing import Any, Literal

from trainers.data.pairs import Pair
from trainers.data.text_rows import TextRow, text_id


Role = Literal["documents", "queries", "qrels", "id lists", "id triples", "id pairs", "text rows"]

QUERY_ID = ("query_id", "qid", "queryid")
DOCUMENT_ID = ("document_id", "doc_id", "docid", "passage_id", "corpus_id", "pid")
OWN_ID = ("_id", "id")
DOCUMENT_IDS = ("document_ids", "doc_ids", "passage_ids", "corpus_ids")
TEXT = ("text", "passage", "document", "contents", "content")
QUERY_TEXT = ("query", "question", "anchor")
POSITIVE_TEXT = ("positive", "answer", "positive_passages")
GRADE = ("score", "label", "relevance")
QUERY_CONFIGS = ("queries", "query", "topics")


class Columns:
    """The columns of a data set by our names."""

    def __init__(self, names: list[str]):
        self.names = names
        self._plain = {name.lower().replace("-", "_").lstrip("_") or name: name for name in names}

    def first(self, names: tuple[str, ...]) -> str | None:
        """The data set's own name of the first of `names` that it has."""
        return next((self._plain[name.lstrip("_")] for name in names if name.lstrip("_") in self._plain), None)

    def numbered(self, stem: str) -> list[str]:
        """`stem`, `stem_1`, `stem_2`, … as far as there are such columns, in their order."""
        return [name for name in self.names if name == stem or name.removeprefix(f"{stem}_").isdigit()]

    def role(self, config: str) -> Role | None:
        """What the rows are; `config` decides between queries and documents, which look alike."""
        has = self.first
        if has(QUERY_ID) and has(DOCUMENT_IDS):
            return "id lists"
        if has(QUERY_ID) and has(("positive_id",)) and has(("negative_id",)):
            return "id triples"
        if has(QUERY_ID) and has(DOCUMENT_ID):
            return "id pairs" if has(GRADE) and "mse" in config else "qrels"
        if has(QUERY_TEXT) and has(POSITIVE_TEXT):
            return "text rows"
        if has(QUERY_ID) and has((*TEXT, *QUERY_TEXT)) or (has(OWN_ID) and config in QUERY_CONFIGS):
            return "queries"
        if has((*DOCUMENT_ID, *OWN_ID)) and has(TEXT):
            return "documents"
        return None


def text_entry(row: dict[str, Any], columns: Columns, ids: tuple[str, ...], texts: tuple[str, ...]) -> tuple[str, str]:
    """(id, title and text) of a row of documents or queries."""
    title = columns.first(("title",))
    text = row[columns.first(texts)]
    return str(row[columns.first((*ids, *OWN_ID))]), f"{(row[title] or '') if title else ''} {text or ''}".strip()


def list_pairs(row: dict[str, Any], columns: Columns) -> Iterator[Pair]:
    """The pairs of a row of `id lists`, with its `labels` and `scores` where it has them."""
    query, documents = str(row[columns.first(QUERY_ID)]), row[columns.first(DOCUMENT_IDS)]
    labels, scores = columns.first(("labels",)), columns.first(("scores", "teacher_scores"))
    for place, document in enumerate(documents):
        label = float(row[labels][place]) if labels else 0.0
        yield Pair(query, str(document), label, float(row[scores][place]) if scores else math.nan)


def triple_pairs(row: dict[str, Any], columns: Columns, references: dict[str, str]) -> Iterator[Pair]:
    """The two pairs of a row of `id triples`.

    Its `score`, if any, is the teacher's margin between the two. The query's reference, its first positive in
    `references` (which is filled here), then gets the score 0 and the negative −margin: the losses that look at
    differences only take them as they take the scores. A margin to another positive tells nothing about these
    differences, and leaves the scores unknown.
    """
    margin = columns.first(("score", "margin"))
    query, positive = str(row[columns.first(QUERY_ID)]), str(row[columns.first(("positive_id",))])
    known = margin is not None and references.setdefault(query, positive) == positive
    yield Pair(query, positive, 1.0, 0.0 if known else math.nan)
    yield Pair(query, str(row[columns.first(("negative_id",))]), 0.0, -float(row[margin]) if known else math.nan)


def scored_pair(row: dict[str, Any], columns: Columns) -> Pair:
    """The pair of a row of `id pairs`: a document and its teacher score."""
    query, document = str(row[columns.first(QUERY_ID)]), str(row[columns.first(DOCUMENT_ID)])
    return Pair(query, document, 0.0, float(row[columns.first(("score",))]))


def text_row(number: int, row: dict[str, Any], columns: Columns) -> TextRow:
    """A row of texts: a query, one relevant text or several, and any number of others."""
    query = row[columns.first(QUERY_TEXT)]
    positives = _texts(row[columns.first(POSITIVE_TEXT)])
    negatives = [text for name in columns.numbered("negative") for text in _texts(row[name])]
    documents = [(text_id(text), text) for text in (*positives, *negatives)]
    return TextRow(number, text_id(query), query, documents, [1.0] * len(positives) + [0.0] * len(negatives))


def _texts(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])
