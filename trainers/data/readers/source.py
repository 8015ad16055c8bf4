"""Sources whose rows hold the texts themselves: triples of texts, DPR's json, top1000, text columns of Hub data sets.

A document without an id of its own is called by a hash of its text, so that the same text is the same document.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from m3se.trainers.data.readers.assemble import Qrels, cache_documents, read_queries
from m3se.trainers.data.readers.pairs import Pair, collect_lists, collection_from_lists
from m3se.trainers.data.schema import Collection


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


TextRows = Callable[[], Iterator[TextRow]]


def text_id(text: str) -> str:
    """The name of a text that has none: 16 hexadecimal digits of its hash."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def collection_from_rows(
    source: str | Path,
    rows: TextRows,
    key: list,
    cache_dir: str | Path | None,
    report: dict,
    qrels: Qrels | None = None,
    allow_missing: bool = False,
) -> Collection:
    """The collection that is in the rows, their documents as candidates; read three times from the start.

    `qrels` replaces the labels of the rows. Raises InputError for an id with two texts, and as `build_collection`.
    """
    documents, counts = cache_documents(source, lambda: _documents(rows), key, cache_dir)
    queries = read_queries(source, lambda: ((row.number, row.query_id, row.query) for row in rows()))
    brought = collect_lists(str(source), lambda: _pairs(rows), queries, documents, key, cache_dir)
    name, judged = Path(source).name, brought.qrels if qrels is None else qrels
    collection = collection_from_lists(name, documents, queries, judged, brought, report | counts, allow_missing)
    return replace(collection, candidates_ranked=False)


def _documents(rows: TextRows) -> Iterator[tuple[int, str, str]]:
    """(line, id, text) of every document once; an id that comes with two texts comes twice."""
    seen: set[int] = set()
    for row in rows():
        for name, text in row.documents:
            key = xxh3_64_intdigest(f"{name}\t{text}".encode())
            if key not in seen:
                seen.add(key)
                yield row.number, name, text


def _pairs(rows: TextRows) -> Iterator[Pair]:
    for row in rows():
        scores = row.scores or [float("nan")] * len(row.documents)
        for (document, _), label, score in zip(row.documents, row.labels, scores, strict=True):
            yield Pair(row.query_id, document, label, score)
