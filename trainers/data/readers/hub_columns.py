"""The meaning of a Hub data set's columns, by their names: hardNegatives, hard-negatives and hard_negatives are alike.

A row that holds something else than its columns promise is an InputError; the reader (hub.py) adds the row's number.
"""

import math
import re
from functools import lru_cache
from typing import Any, Literal

from m3se.trainers.data.readers.source import Pair, TextRow, parse_number, text_id
from m3se.trainers.errors import InputError, shorten


Row = dict[str, Any]
Role = Literal["documents", "queries", "qrels", "id lists", "id triples", "id pairs", "text rows"]

QUERY_ID = ("query_id", "qid", "queryid")
DOCUMENT_ID = ("document_id", "doc_id", "docid", "passage_id", "corpus_id", "pid")
OWN_ID = ("_id", "id")
DOCUMENT_IDS = ("document_ids", "doc_ids", "passage_ids", "corpus_ids")
TEXT = ("text", "passage", "document", "contents", "content")
QUERY_TEXT = ("query", "question", "anchor")
# Of texts. Each may be a text, a list of them, or a list of passages with id, title and text; NAME_1, NAME_2 … count.
POSITIVE = ("positive", "positives", "pos", "answer", "positive_passages", "positive_passage", "positive_ctxs")
NEGATIVE = ("negative", "negatives", "neg", "hard_negative", "hard_negatives", "hard_neg", "negative_passages")
NEGATIVE += ("negative_passage", "hard_negative_passages", "hard_negative_ctxs", "negative_ctxs")
# Names of a single text; under the others, a list may have been written as text.
OF_ONE = ("positive", "answer", "positive_passage", "negative", "hard_negative", "hard_neg", "negative_passage")
SCORES = {"pos": "pos_scores", "neg": "neg_scores"}  # FlagEmbedding's: column of texts → column of their scores
POSITIVE_ID, NEGATIVE_ID = ("positive_id",), ("negative_id",)
GRADE = ("score", "label", "relevance")
QUERY_CONFIGS = ("queries", "query", "topics")
WRITTEN_LIST = re.compile(r"""\s*\[\s*(['"]).*\1\s*\]\s*$""", re.DOTALL)  # as pandas writes a list to a CSV file
OF_LISTS = re.compile(r"(^|_)(pos|neg)(s|itives?|atives?)?(_|$)")


class Columns:
    """The columns of a data set by our names."""

    def __init__(self, names: list[str]):
        self.names = names
        self._plain = dict(zip(map(_plain, names), names, strict=True))

    def first(self, names: tuple[str, ...]) -> str | None:
        """Return the data set's own name of the first of `names` that it has."""
        for name in names:
            if name.lstrip("_") in self._plain:
                return self._plain[name.lstrip("_")]
        return None

    def of_texts(self, stems: tuple[str, ...]) -> list[str]:
        """List the columns called by one of `stems`, with or without a number behind it, in their order."""
        return [name for name in self.names if _stem(name) in stems]

    def role(self, config: str) -> Role | None:
        """Tell what the rows are; `config` decides between queries and documents, which look alike."""
        has = self.first
        if has(QUERY_ID) and has(DOCUMENT_IDS):
            return "id lists"
        if has(QUERY_ID) and has(POSITIVE_ID) and has(NEGATIVE_ID):
            return "id triples"
        if has(QUERY_ID) and has(DOCUMENT_ID):
            return "id pairs" if has(GRADE) and "mse" in config else "qrels"
        if has(QUERY_TEXT) and self.of_texts(POSITIVE):
            return "text rows"
        if has(QUERY_ID) and has((*TEXT, *QUERY_TEXT)) or (has(OWN_ID) and config in QUERY_CONFIGS):
            return "queries"
        if has((*DOCUMENT_ID, *OWN_ID)) and has(TEXT):
            return "documents"
        return None

    def unread(self) -> list[str]:
        """List the columns that rows of texts have and `text_row` does not read."""
        read = [self.first(QUERY_ID), self.first(QUERY_TEXT), *self.of_texts((*POSITIVE, *NEGATIVE, *SCORES.values()))]
        return [name for name in self.names if name not in read]

    def refuse_lists(self, place: str) -> None:
        """Raise InputError for a column of positives or negatives that would be dropped without a word."""
        understood = {self.first(POSITIVE_ID), self.first(NEGATIVE_ID)} if self.first(QUERY_ID) else set()
        for name in self.unread():
            if OF_LISTS.search(_plain(name)) and name not in understood:
                expected = f"{', '.join(POSITIVE)}; {', '.join(NEGATIVE)}"
                raise InputError(f"{place}: the column {name} is not understood; expected one of {expected}")


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return words.lower().replace("-", "_").lstrip("_") or name


def _stem(name: str) -> str:
    return re.sub(r"[_.]?\d+$", "", _plain(name))


def text_entry(row: Row, columns: Columns, ids: tuple[str, ...], texts: tuple[str, ...]) -> tuple[str, str]:
    """Return id, and title and text, of a row of documents or queries."""
    return read_id(row, columns.first((*ids, *OWN_ID))), _titled_text(row, columns, texts)


def _titled_text(row: Row, columns: Columns, texts: tuple[str, ...]) -> str:
    title = columns.first(("title",))
    return f"{read_text(row, title) if title else ''} {read_text(row, columns.first(texts))}".strip()


def list_pairs(row: Row, columns: Columns) -> list[Pair]:
    """Return the pairs of a row of `id lists`, with its `labels` and `scores` where it has them."""
    query, column = read_id(row, columns.first(QUERY_ID)), columns.first(DOCUMENT_IDS)
    documents = [parse_id(name, column) for name in read_list(row, column)]
    labels = _numbers(row, columns.first(("labels",)), len(documents), 0.0)
    scores = _numbers(row, columns.first(("scores", "teacher_scores")), len(documents), math.nan)
    return list(map(Pair, [query] * len(documents), documents, labels, scores))


def _numbers(row: Row, column: str | None, size: int, default: float) -> list[float]:
    """Return the `size` numbers of a list; all `default` where there is no such column."""
    if column is None:
        return [default] * size
    numbers = [parse_number(value, f"a number as {column}") for value in read_list(row, column)]
    if len(numbers) != size:
        raise InputError(f"{column} has {len(numbers)} numbers for {size} documents")
    return numbers


def triple_pairs(row: Row, columns: Columns, references: dict[str, str]) -> list[Pair]:
    """Return the two pairs of a row of `id triples`.

    Its `score`, if any, is the teacher's margin between the two. The query's reference, its first positive in
    `references` (which is filled here), then gets the score 0 and the negative −margin: the losses that look at
    differences only take them as they take the scores. A margin to another positive tells nothing about these
    differences, and leaves the scores unknown.
    """
    query, positive, negative = _read_ids(row, columns, QUERY_ID, POSITIVE_ID, NEGATIVE_ID)
    column = columns.first(("score", "margin"))
    margin = math.nan if column is None else read_number(row, column)
    is_scored = column is not None and references.setdefault(query, positive) == positive
    return [
        Pair(query, positive, 1.0, 0.0 if is_scored else math.nan),
        Pair(query, negative, 0.0, -margin if is_scored else math.nan),
    ]


def scored_pair(row: Row, columns: Columns) -> Pair:
    """Return the pair of a row of `id pairs`: a document and its teacher score."""
    query, document = _read_ids(row, columns, QUERY_ID, DOCUMENT_ID)
    return Pair(query, document, 0.0, read_number(row, columns.first(("score",))))


def _read_ids(row: Row, columns: Columns, *kinds: tuple[str, ...]) -> list[str]:
    """Return the ids of a row, of the column of each kind."""
    return [read_id(row, columns.first(names)) for names in kinds]


def text_row(number: int, row: Row, columns: Columns) -> TextRow:
    """Return a row of texts: a query, one relevant text or several, and any number of others.

    Ids and scores are the row's own where it has them.
    """
    query, query_id = read_text(row, columns.first(QUERY_TEXT)), columns.first(QUERY_ID)
    documents, labels, scores = [], [], []
    for stems, label in ((POSITIVE, 1.0), (NEGATIVE, 0.0)):
        for column in columns.of_texts(stems):
            passages = _passages(row, column)
            documents += passages
            labels += [label] * len(passages)
            scores += _numbers(row, _score_column(column, columns), len(passages), math.nan)
    return TextRow(number, read_id(row, query_id) if query_id else text_id(query), query, documents, labels, scores)


def _score_column(texts: str, columns: Columns) -> str | None:
    """Return the column of the scores of a column of texts, if there is one."""
    scores = SCORES.get(_plain(texts))
    return scores and columns.first((scores,))


def _passages(row: Row, column: str) -> list[tuple[str, str]]:
    """Return ids and texts of a column that holds one text or passage, several, or none."""
    values = row.get(column)
    if isinstance(values, str) and _stem(column) not in OF_ONE and WRITTEN_LIST.match(values):
        raise InputError(
            f"expected a text or a list of them as {column}, got a list written as text: {shorten(values)}"
        )
    values = [values] if isinstance(values, str | dict) else values or []
    if not isinstance(values, list):
        raise InputError(f"expected a text or a list of them as {column}, got {shorten(str(values))}")
    return [_passage(value, column) for value in values]


def _passage(value: object, column: str) -> tuple[str, str]:
    """Return id and text of a passage: a text, or an object such as Tevatron's docid, title and text."""
    if isinstance(value, str):
        return text_id(value), value
    columns = Columns(list(value)) if isinstance(value, dict) else None
    if columns is None or not isinstance(value.get(columns.first(TEXT)), str):
        raise InputError(f"expected a text, or an object with a text, as {column}, got {shorten(str(value))}")
    text, name = _titled_text(value, columns, TEXT), columns.first((*DOCUMENT_ID, *OWN_ID))
    return read_id(value, name) if name else text_id(text), text


def read_id(row: Row, column: str) -> str:
    """Return the id in a column, which may be a whole number. Raises InputError for anything else."""
    return parse_id(row.get(column), column)


def parse_id(value: Any, column: str) -> str:
    """Return an id, which may be a whole number, as text. Raises InputError naming `column` for anything else."""
    if type(value) not in (str, int):
        raise InputError(f"expected an id as {column}, got {shorten(str(value))}")
    return str(value)


def read_text(row: Row, column: str) -> str:
    """Return the text in a column, empty where there is none. Raises InputError for anything else."""
    text = row.get(column)
    if text is not None and not isinstance(text, str):
        raise InputError(f"expected a text as {column}, got {shorten(str(text))}")
    return text or ""


def read_number(row: Row, column: str) -> float:
    """Return the number in a column, which may be written as text. Raises InputError for anything else."""
    return parse_number(row.get(column), f"a number as {column}")


def read_list(row: Row, column: str) -> list:
    """Return the list in a column. Raises InputError for anything else."""
    value = row.get(column)
    if not isinstance(value, list):
        raise InputError(f"expected a list as {column}, got {shorten(str(value))}")
    return value
