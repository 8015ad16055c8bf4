"""Runs: which documents a system returned for each query, with what score. TREC's text format on disk."""

import math
from collections.abc import Iterable
from pathlib import Path

from m3se.trainers.data.readers.text_files import read_lines, shorten
from m3se.trainers.errors import InputError
from m3se.trainers.storage.atomic import complete_file


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


def read_run(path: str | Path) -> Run:
    """Read a TREC run file; documents of a query in the order of the file. Ranks and the tag are not used.

    Raises InputError naming file and line: not six columns, a score that is no number, a document twice; and naming
    the file when it cannot be read.
    """
    run: Run = {}
    for number, line in read_lines(Path(path)):
        columns = line.split()
        if len(columns) != 6:
            raise InputError(
                f"{path}, line {number}: expected the six columns 'query Q0 document rank score tag', "
                f"got {len(columns)}: {shorten(line)}"
            )
        query, document = columns[0], columns[2]
        scores = run.setdefault(query, {})
        if document in scores:
            raise InputError(
                f"{path}, line {number}: document {shorten(document)} occurs twice for query {shorten(query)}"
            )
        scores[document] = parse_score(columns[4], path, number)
    if not run:
        raise InputError(f"{path}: the run is empty")
    return run


def is_trec_run(path: str | Path) -> bool:
    """Whether the first line of a file has the six columns of a run, a number in the fifth."""
    try:
        with open(path, encoding="utf-8") as file:
            columns = file.readline().split()
    except (OSError, UnicodeDecodeError):
        return False
    try:
        return len(columns) == 6 and not math.isnan(float(columns[4]))
    except ValueError:
        return False


def ranking(scores: dict[str, float]) -> list[str]:
    """Documents of one query, best first; equal scores in the order given."""
    return sorted(scores, key=scores.__getitem__, reverse=True)


def top(run: Run, depth: int) -> Run:
    """The run cut to the best `depth` documents of each query, best first."""
    return {
        query: {document: scores[document] for document in ranking(scores)[:depth]} for query, scores in run.items()
    }


def parse_score(text: str, path: str | Path, number: int) -> float:
    """A score as a file has it; raises InputError, naming file and line, for what is no number."""
    try:
        score = float(text) if "_" not in text else math.nan  # Python reads 1_0 as ten
    except ValueError:
        score = math.nan
    if math.isnan(score):
        raise InputError(f"{path}, line {number}: expected a number as the score, got {shorten(text)}")
    return score


def check_ids(queries: Iterable[str], documents: Iterable[str]) -> None:
    """Raise InputError for an id that `write_run` could not write: to be asked before a run is computed."""
    for query in queries:
        refuse_white_space("query id", query)
    for document in documents:
        refuse_white_space("document id", document)


def refuse_white_space(what: str, text: str) -> None:
    if not text or text.split() != [text]:
        raise InputError(f"{what} {shorten(text)} cannot be written to a TREC run file: ids there have no white space")
