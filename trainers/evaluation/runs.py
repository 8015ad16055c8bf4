"""Runs: the documents that a system returned for each query, with their scores. TREC's text format on disk."""

import math
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TextIO

from m3se.trainers.data.readers.trec import is_trec_run, read_run
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError, shorten
from m3se.trainers.storage.atomic import complete_file


__all__ = [
    "Run",
    "check_collection",
    "check_ids",
    "is_trec_run",
    "read_run",
    "without_identical",
    "write_run",
    "write_run_lines",
]

IDS_AT_ONCE = 100_000
RUN_FILE = "a TREC run file"
Run = dict[str, dict[str, float]]  # query id → document id → score


def write_run(path: str | Path, run: Run, tag: str) -> None:
    """Write `query Q0 document rank score tag` lines, best first, equal scores in the order of the run.

    Scores keep full precision (what is read back is equal), since ties depend on the last bit. The file appears only
    when complete. Raises InputError for an id or tag that is empty or holds white space, which the format cannot
    express, and for a score that is NaN.
    """
    with complete_file(path) as new, open(new, "w", encoding="utf-8") as file:
        write_run_lines(file, run, tag)


def write_run_lines(file: TextIO, run: Run, tag: str) -> None:
    """Write the lines of a run into an open file; raises as `write_run`."""
    refuse_white_space("tag", tag)
    for query, scores in run.items():
        refuse_white_space("query id", query)
        for rank, document in enumerate(ranking(scores), start=1):
            refuse_white_space("document id", document)
            if math.isnan(scores[document]):
                raise InputError(f"query {query}: the score of document {document} is NaN")
            file.write(f"{query} Q0 {document} {rank} {scores[document]!r} {tag}\n")


def ranking(scores: dict[str, float]) -> list[str]:
    """Return the documents of one query, best first; equal scores in the order given."""
    return sorted(scores, key=scores.__getitem__, reverse=True)


def without_identical(run: Run, identical: Container[str], depth: int) -> Run:
    """Return the best `depth` documents of each query, without itself for the queries in `identical`."""
    result = {}
    for query, scores in run.items():
        documents = ranking(scores)
        if query in scores and query in identical:
            documents.remove(query)
        result[query] = {document: scores[document] for document in documents[:depth]}
    return result


def check_collection(collection: Collection) -> None:
    """Raise InputError for an id of a query or document that `write_run` could not write.

    To be asked before a collection is embedded, any of whose documents may be in a run.
    """
    ids = collection.documents.ids
    check_ids(collection.queries, ())
    for start in range(0, len(ids), IDS_AT_ONCE):
        check_ids((), ids[start : start + IDS_AT_ONCE])


def check_ids(queries: Iterable[str], documents: Iterable[str], file: str = RUN_FILE) -> None:
    """Raise InputError for an id that could not be written to a file: to be asked before the work for it."""
    for query in queries:
        refuse_white_space("query id", query, file)
    for document in documents:
        refuse_white_space("document id", document, file)


def refuse_white_space(subject: str, text: str, file: str = RUN_FILE) -> None:
    """Raise InputError for an id or tag that is empty or holds white space."""
    if not text or text.split() != [text]:
        raise InputError(f"{subject} {shorten(text)} cannot be written to {file}: ids there have no white space")
