"""The contract between readers and collections: a reader describes a source, `assemble` makes a collection of it.

Documents and lists may be larger than memory: they are streams, which know the version of the data that they come from
and start anew at each reading. Queries and judgments are read at once. Nothing is read before it is asked for.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

from xxhash import xxh3_64_intdigest

from m3se.trainers.errors import InputError, first_line, shorten


Item = TypeVar("Item")
Entry = tuple[int, str, str]  # line or row number, id, text
Queries = dict[str, str]  # query id → text
Qrels = dict[str, dict[str, float]]  # query id → document id → grade
LARGEST = 3.4028235e38  # of float32, in which grades and scores are kept


class Pair(NamedTuple):
    """A query, a document, its relevance where the source says it (0: not, or not said), a teacher's score or NaN."""

    query: str
    document: str
    label: float = 0.0
    score: float = math.nan


class TextRow(NamedTuple):
    """A query with some of its documents (id, text), their labels (0: not relevant, or not said) and scores.

    `number` is the line or row it was read from.
    """

    number: int
    query_id: str
    query: str
    documents: list[tuple[str, str]]
    labels: list[float]
    scores: list[float] | None = None


@dataclass(frozen=True)
class Stream(Generic[Item]):
    """Documents or pairs, from the start at each call of `read`.

    `place` is their name in messages, `key` tells one version of them from another without reading them.
    """

    place: str
    key: list
    read: Callable[[], Iterator[Item]]


@dataclass(frozen=True)
class Source:
    """The parts of a data source.

    `name` is that of the collection. `queries` and `qrels` count what they drop. `pairs` are the lists that come
    along; `ranked` says that their order is best first. Judgments from elsewhere may be "optional" to a source,
    "required" because it has none, or "refused" because no other file knows its ids. `judges` tells whether a split
    has judgments (None: any split), and `judged` names the queries that any split judges; sources whose queries are
    those of one split have neither. `has_queries` tells whether there are queries at all, and `titles` are those that
    stand at the beginning of documents, by id.
    """

    name: str
    format: str
    documents: Stream[Entry]
    queries: Callable[[Counter[str]], Queries]
    qrels: Callable[[Counter[str]], Qrels] | None = None
    pairs: Stream[Pair] | None = None
    ranked: bool = False
    given_qrels: Literal["optional", "required", "refused"] = "optional"
    split: str | None = None
    judges: Callable[[str | None], bool] | None = None
    judged: Callable[[], set[str]] | None = None
    has_queries: Callable[[], bool] = lambda: True
    titles: Callable[[], dict[str, str]] = dict


def source_from_rows(
    file: Path | str,
    format_name: str,
    key: list,
    rows: Callable[[], Iterator[TextRow]],
    given_qrels: Literal["required", "refused"] = "refused",
) -> Source:
    """Make a source of rows that hold the texts themselves, the documents of a row being its query's candidates.

    Args:
        file: their name in messages; the last part of it is the name of the collection.
        format_name: the name of their format.
        key: the version of the rows.
        rows: the rows, from the start at each call.
        given_qrels: whether other judgments replace the labels of the rows.
    """

    def queries(counts: Counter[str]) -> Queries:
        """Read the queries of the rows; a query with several rows is no repetition to be counted."""
        return read_queries(file, lambda: _queries(rows))

    documents = Stream(str(file), key, lambda: _documents(rows))
    pairs = Stream(str(file), key, lambda: _pairs(rows))
    name = Path(file).name
    return Source(name, format_name, documents, queries, pairs=pairs, given_qrels=given_qrels)


def _queries(rows: Callable[[], Iterator[TextRow]]) -> Iterator[Entry]:
    for row in rows():
        yield row.number, row.query_id, row.query


def _documents(rows: Callable[[], Iterator[TextRow]]) -> Iterator[Entry]:
    """Yield (line, id, text) of every document once; an id that comes with two texts comes twice."""
    seen: set[int] = set()
    for row in rows():
        for name, text in row.documents:
            key = xxh3_64_intdigest(f"{name}\t{text}".encode())
            if key not in seen:
                seen.add(key)
                yield row.number, name, text


def _pairs(rows: Callable[[], Iterator[TextRow]]) -> Iterator[Pair]:
    for row in rows():
        scores = row.scores or [math.nan] * len(row.documents)
        for (document, _), label, score in zip(row.documents, row.labels, scores, strict=True):
            yield Pair(row.query_id, document, label, score)


def read_queries(
    place: str | Path, entries: Callable[[], Iterator[Entry]], counts: Counter[str] | None = None
) -> Queries:
    """Read query id → text; with `counts`, count repeated queries there.

    Raises:
        InputError: naming the lines of `place` where an id is empty or stands for two texts.
    """
    queries: Queries = {}
    counts = Counter() if counts is None else counts
    for number, query, text in entries():
        if not query:
            raise InputError(f"{place}, line {number}: the query's id is empty")
        if query in queries:
            counts["queries_dropped_as_repeated"] += 1
        if queries.setdefault(query, text) != text:
            raise InputError(describe_two_texts(place, "query", entries, query))
    return queries


def describe_two_texts(place: str | Path, kind: str, entries: Callable[[], Iterator[Entry]], repeated: str) -> str:
    """Read entries again, to say on which lines the id `repeated` of a document or query (`kind`) has which texts."""
    lines: dict[str, int] = {}
    for number, name, text in entries():
        if name == repeated:
            lines.setdefault(text, number)
    texts = [f"{shorten(text)} on line {number}" for text, number in lines.items()]
    return f"{place}: {kind} {shorten(repeated)} is {texts[0]} and {texts[1]}"


def text_id(text: str) -> str:
    """Return an id for a text that has none, 16 hexadecimal digits of its hash: equal texts are one document."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def parse_number(value: object, expected: str) -> float:
    """Return a number that float32 can hold, which may be written as text.

    Raises:
        InputError: anything else, in words that lack the place: "expected …, got …".
    """
    try:
        number = float(value) if "_" not in str(value) else math.nan  # Python reads 1_0 as ten
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= LARGEST:
        raise InputError(f"expected {expected}, got {shorten(str(value))}")
    return number


def numbered_rows(rows: Callable[[], Iterable[Item]], place: str) -> Iterator[tuple[int, Item]]:
    """Yield (number, row) of the rows that another library reads, numbered from 1.

    Raises:
        InputError: in place of whatever that library raises, naming `place` and the row before.
    """
    number = 0
    try:
        for number, row in enumerate(rows(), start=1):  # noqa: B007  the number is for the message
            yield number, row
    except Exception as error:
        raise InputError(f"{place}: cannot be read after row {number}: {first_line(error)}") from error
