"""MS MARCO's files under their own names: folders of tables, and two tables that hold the texts themselves.

collection.tsv                       id, text
queries.<split>.tsv                  id, text        (TREC DL: msmarco-test<year>-queries.tsv)
qrels.<split>.tsv                    judgments       (TREC DL: <year>qrels-pass.txt)
triples.train.small.tsv              query text, positive text, negative text
top1000.<split>                      query id, document id, query text, document text; in random order
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from m3se.trainers.data.readers.list_files import TOP1000
from m3se.trainers.data.readers.source import (
    Entry,
    Queries,
    Source,
    Stream,
    TextRow,
    read_queries,
    source_from_rows,
    text_id,
)
from m3se.trainers.data.readers.text_files import find, read_columns
from m3se.trainers.data.readers.trec import read_qrels
from m3se.trainers.errors import InputError
from m3se.trainers.storage.cache import file_key


COLLECTION = "collection.tsv"
QUERIES = ("queries.{}.tsv", "msmarco-test{}-queries.tsv", "msmarco-passagetest{}-queries.tsv", "topics.{}.tsv")
QRELS = ("qrels.{}.tsv", "{}qrels-pass.txt", "{}.qrels-pass.txt", "qrels.{}.txt")
TEXT_TRIPLE = ("query text", "positive text", "negative text")


def is_msmarco(folder: Path) -> bool:
    """Tell whether `folder` has a `collection.tsv`."""
    return find(folder, COLLECTION) is not None


def read_msmarco(folder: Path, split: str) -> Source:
    """Describe a folder of MS MARCO's: the collection, `queries.<split>.tsv` and `qrels.<split>.tsv`.

    Its parts raise InputError with file and line for what cannot be read, and naming the files that were looked for.
    """

    def queries(counts: Counter[str]) -> Queries:
        """Read the queries of the split."""
        file = _split_file(folder, split, QUERIES)
        return read_queries(file, lambda: _entries(file), counts)

    texts = find(folder, COLLECTION)
    return Source(
        folder.name,
        "MS MARCO",
        documents=Stream(str(texts), file_key(texts), lambda: _entries(texts)),
        queries=queries,
        qrels=lambda counts: read_qrels(_split_file(folder, split, QRELS), counts),
        split=split,
        judges=lambda split: any(_qrels_files(folder) if split is None else [find(folder, *_names(QRELS, split))]),
        judged=lambda: _judged(folder),
        has_queries=lambda: find(folder, *_names(QUERIES, split)) is not None,
    )


def read_text_triples(file: Path) -> Source:
    """Describe a file of triples of texts, which has no ids: equal texts are one document."""
    return source_from_rows(file, "triples of texts", file_key(file), lambda: _triples(file))


def read_top1000(file: Path) -> Source:
    """Describe a top1000 file: candidates of queries over the documents that it quotes, judged by other files."""
    return source_from_rows(file, "top1000", file_key(file), lambda: _candidates(file), given_qrels="required")


def _split_file(folder: Path, split: str, patterns: tuple[str, ...]) -> Path:
    names = _names(patterns, split)
    file = find(folder, *names)
    if file is None:
        kind = patterns[0].split(".")[0]
        there = sorted(path.name for path in folder.iterdir() if kind in path.name)
        raise InputError(
            f"{folder}: no {kind} of split {split!r}: expected {names[0]} (or {', '.join(names[1:])}), "
            f"found {', '.join(there) or 'none'}"
        )
    return file


def _names(patterns: tuple[str, ...], split: str) -> list[str]:
    return [pattern.format(split) for pattern in patterns]


def _qrels_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if "qrels" in path.name and path.is_file())


def _judged(folder: Path) -> set[str]:
    """Return the ids of the queries that any file of judgments names."""
    judged: set[str] = set()
    for file in _qrels_files(folder):
        judged |= read_qrels(file).keys()
    return judged


def _entries(file: Path) -> Iterator[Entry]:
    for number, (name, text) in read_columns(file, ("id", "text")):
        yield number, name.strip(), text.strip()


def _triples(file: Path) -> Iterator[TextRow]:
    for number, (query, positive, negative) in read_columns(file, TEXT_TRIPLE):
        documents = [(text_id(positive), positive), (text_id(negative), negative)]
        yield TextRow(number, text_id(query), query, documents, [1.0, 0.0])


def _candidates(file: Path) -> Iterator[TextRow]:
    for number, (query_id, document_id, query, document) in read_columns(file, TOP1000):
        yield TextRow(number, query_id, query, [(document_id, document)], [0.0])
