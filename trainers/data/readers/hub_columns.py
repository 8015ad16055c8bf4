"""What the columns of a Hub data set say it holds. Names are compared without case, with - and _ alike.

Whatever a row holds instead of what is expected is an InputError; the reader (trainers/data/hub.py) adds the row.
"""

import math
from typing import Any, Literal

from m3se.trainers.data.readers.pairs import Pair
from m3se.trainers.data.readers.source import TextRow, text_id
from m3se.trainers.data.readers.trec import LARGEST
from m3se.trainers.errors import InputError, shorten


Row = dict[str, Any]
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


def text_entry(row: Row, columns: Columns, ids: tuple[str, ...], texts: tuple[str, ...]) -> tuple[str, str]:
    """(id, title and text) of a row of documents or queries."""
    title = columns.first(("title",))
    text = f"{text_in(row, title) if title else ''} {text_in(row, columns.first(texts))}"
    return id_in(row, columns.first((*ids, *OWN_ID))), text.strip()


def list_pairs(row: Row, columns: Columns) -> list[Pair]:
    """The pairs of a row of `id lists`, with its `labels` and `scores` where it has them."""
    query, named = id_in(row, columns.first(QUERY_ID)), columns.first(DOCUMENT_IDS)
    documents = [parse_id(name, named) for name in list_in(row, named)]
    labels = _numbers(row, columns.first(("labels",)), len(documents), 0.0)
    scores = _numbers(row, columns.first(("scores", "teacher_scores")), len(documents), math.nan)
    return [Pair(query, *pair) for pair in zip(documents, labels, scores, strict=True)]


def _numbers(row: Row, column: str | None, size: int, default: float) -> list[float]:
    """The numbers of a list of `size`; all `default` where there is no such column."""
    if column is None:
        return [default] * size
    numbers = [parse_number(value, column) for value in list_in(row, column)]
    if len(numbers) != size:
        raise InputError(f"{column} has {len(numbers)} numbers for {size} documents")
    return numbers


def triple_pairs(row: Row, columns: Columns, references: dict[str, str]) -> list[Pair]:
    """The two pairs of a row of `id triples`.

    Its `score`, if any, is the teacher's margin between the two. The query's reference, its first positive in
    `references` (which is filled here), then gets the score 0 and the negative −margin: the losses that look at
    differences only take them as they take the scores. A margin to another positive tells nothing about these
    differences, and leaves the scores unknown.
    """
    names = (QUERY_ID, ("positive_id",), ("negative_id",))
    query, positive, negative = (id_in(row, columns.first(name)) for name in names)
    column = columns.first(("score", "margin"))
    margin = math.nan if column is None else number_in(row, column)
    known = column is not None and references.setdefault(query, positive) == positive
    return [
        Pair(query, positive, 1.0, 0.0 if known else math.nan),
        Pair(query, negative, 0.0, -margin if known else math.nan),
    ]


def scored_pair(row: Row, columns: Columns) -> Pair:
    """The pair of a row of `id pairs`: a document and its teacher score."""
    query, document = (id_in(row, columns.first(names)) for names in (QUERY_ID, DOCUMENT_ID))
    return Pair(query, document, 0.0, number_in(row, columns.first(("score",))))


def text_row(number: int, row: Row, columns: Columns) -> TextRow:
    """A row of texts: a query, one relevant text or several, and any number of others."""
    query = text_in(row, columns.first(QUERY_TEXT))
    positives = _texts(row, columns.first(POSITIVE_TEXT))
    negatives = [text for name in columns.numbered("negative") for text in _texts(row, name)]
    documents = [(text_id(text), text) for text in (*positives, *negatives)]
    return TextRow(number, text_id(query), query, documents, [1.0] * len(positives) + [0.0] * len(negatives))


def _texts(row: Row, column: str) -> list[str]:
    """One text, several, or none."""
    texts = row.get(column)
    texts = [texts] if isinstance(texts, str) else texts or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"expected a text or a list of them as {column}, got {shorten(str(texts))}")
    return texts


def id_in(row: Row, column: str) -> str:
    return parse_id(row.get(column), column)


def parse_id(value: Any, column: str) -> str:
    """An id, which may be a whole number. Raises InputError for anything else."""
    if type(value) not in (str, int):
        raise InputError(f"expected an id as {column}, got {shorten(str(value))}")
    return str(value)


def text_in(row: Row, column: str) -> str:
    """A text, empty where there is none. Raises InputError for anything else."""
    text = row.get(column)
    if text is not None and not isinstance(text, str):
        raise InputError(f"expected a text as {column}, got {shorten(str(text))}")
    return text or ""


def number_in(row: Row, column: str) -> float:
    return parse_number(row.get(column), column)


def parse_number(value: Any, column: str) -> float:
    """A number that float32 can hold, which may be written as text. Raises InputError for anything else."""
    try:
        number = float(value) if "_" not in str(value) else math.nan  # Python reads 1_0 as ten
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= LARGEST:
        raise InputError(f"expected a number as {column}, got {shorten(str(value))}")
    return number


def list_in(row: Row, column: str) -> list:
    value = row.get(column)
    if not isinstance(value, list):
        raise InputError(f"expected a list as {column}, got {shorten(str(value))}")
    return value
