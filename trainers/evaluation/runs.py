"""Runs: which documents a system returned for each query, with what score. TREC's text format on disk."""

import math
from collections.abc import Iterable
from pathlib import Path

from m3se.trainers.data.readers.trec import is_trec_run, read_run
from m3se.trainers.errors import InputError, shorten
from m3se.trainers.storage.atomic import complete_file


__all__ = ["Run", "check_ids", "is_trec_run", "ranking", "read_run", "top", "write_run"]

Run = dict[str, dict[str, float]]  # query id → document id → score


def write_run(path: str | Path, run: Run, tag: str) -> None:
    """Write `query Q0 document rank score tag` lines, best first, equal scores in the order of the run.

    Scores keep full precision (what is read back is equal), since ties depend on the last bit. The file appears only
    when complete. Raises InputError for an id or tag that is empty or holds white space, which the format cannot
    express, and for a score that is NaN.
    """
    refuse_white_space("tag", tag)
    with complete_file(path) as new, open(new, "w", encoding="utf-8") as file:
        for query, scores in run.items():
            refuse_white_space("query id", query)
            for rank, document in enumerate(ranking(scores), start=1):
                refuse_white_space("document id", document)
                if math.isnan(scores[document]):
                    raise InputError(f"query {query}: the score of document {document} is NaN")
                file.write(f"{query} Q0 {document} {rank} {scores[document]!r} {tag}\n")


def ranking(scores: dict[str, float]) -> list[str]:
    """Documents of one query, best first; equal scores in the order given."""
    return sorted(scores, key=scores.__getitem__, reverse=True)


def top(run: Run, depth: int) -> Run:
    """The run cut to the best `depth` documents of each query, best first."""
    return {
        query: {document: scores[document] for document in ranking(scores)[:depth]} for query, scores in run.items()
    }


def check_ids(queries: Iterable[str], documents: Iterable[str]) -> None:
    """Raise InputError for an id that `write_run` could not write: to be asked before a run is computed."""
    for query in queries:
        refuse_white_space("query id", query)
    for document in documents:
        refuse_white_space("document id", document)


def refuse_white_space(what: str, text: str) -> None:
    if not text or text.split() != [text]:
        raise InputError(f"{what} {shorten(text)} cannot be written to a TREC run file: ids there have no white space")
