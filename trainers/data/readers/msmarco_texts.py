"""MS MARCO's tables that hold the texts: `triples.train.small.tsv` and `top1000.dev`."""

from collections.abc import Iterator
from pathlib import Path

from m3se.trainers.data.readers.assemble import Qrels, file_key
from m3se.trainers.data.readers.list_files import TOP1000
from m3se.trainers.data.readers.source import TextRow, collection_from_rows, text_id
from m3se.trainers.data.readers.text_files import read_columns
from m3se.trainers.data.schema import Collection


TEXT_TRIPLE = ("query text", "positive text", "negative text")


def read_text_triples(file: Path, cache_dir: str | Path | None = None) -> Collection:
    """The queries and documents of a file of triples of texts, which has no ids: equal texts are one document."""
    report = {"source": file.name, "format": "triples of texts"}
    return collection_from_rows(file, lambda: _triples(file), file_key(file), cache_dir, report)


def read_top1000(file: Path, qrels: Qrels, cache_dir: str | Path | None = None) -> Collection:
    """The queries and candidates of a top1000 file over the documents that it quotes, judged by `qrels`.

    What `qrels` judges beyond these queries and documents is left out and counted.
    """
    report = {"source": file.name, "format": "top1000"}
    key = file_key(file)
    return collection_from_rows(file, lambda: _candidates(file), key, cache_dir, report, qrels, allow_missing=True)


def _triples(file: Path) -> Iterator[TextRow]:
    for number, (query, positive, negative) in read_columns(file, TEXT_TRIPLE):
        documents = [(text_id(text), text) for text in (positive, negative)]
        yield TextRow(number, text_id(query), query, documents, [1.0, 0.0])


def _candidates(file: Path) -> Iterator[TextRow]:
    for number, (query_id, document_id, query, document) in read_columns(file, TOP1000):
        yield TextRow(number, query_id, query, [(document_id, document)], [0.0])
