"""TREC's files: judgments (qrels) and ranked lists (runs), with MS MARCO's and BEIR's variants of them."""

import math
from collections import Counter
from collections.abc import Container, Iterator
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import NamedTuple

from m3se.trainers.data.readers.source import Qrels, parse_number
from m3se.trainers.data.readers.text_files import first_lines, read_lines
from m3se.trainers.errors import InputError, shorten


QRELS_LAYOUTS = "'query 0 document grade' or 'query document grade'"
RUN_LAYOUTS = "'query Q0 document rank score tag' or 'query document rank'"


def read_qrels(file: Path, counts: Counter[str] | None = None) -> Qrels:
    """Read judgments, query id → document id → grade: four columns (TREC) or three (BEIR, its header or none).

    Repeated judgments are counted in `counts`.

    Raises:
        InputError: naming file and line: other columns, a grade that is no number, a pair with two grades.
    """
    qrels: Qrels = {}
    counts = Counter() if counts is None else counts
    for number, line in read_lines(file):
        columns = line.split("\t")
        if len(columns) not in (3, 4):
            columns = line.split()
        if len(columns) == 3 and columns[2] == "score" and not qrels:
            continue
        if len(columns) not in (3, 4):
            raise InputError(f"{file}, line {number}: expected {QRELS_LAYOUTS}, got {shorten(line)}")
        grade = parse_number_at(file, number, columns[-1], "a grade")
        judge(qrels, columns[0], columns[-2], grade, f"{file}, line {number}", counts)
    return qrels


def judge(qrels: Qrels, query: str, document: str, grade: float, place: str, counts: Counter[str]) -> None:
    """Add a judgment, or count it as repeated.

    Args:
        qrels: the judgments so far.
        query: the query's id.
        document: the document's id.
        grade: the document's relevance.
        place: where the judgment stands, for the message.
        counts: the counter of repeated judgments.

    Raises:
        InputError: the judgment contradicts an earlier one.
    """
    earlier = qrels.setdefault(query, {}).get(document)
    if earlier is None:
        qrels[query][document] = grade
    elif earlier == grade:
        counts["judgments_dropped_as_repeated"] += 1
    else:
        pair = f"document {shorten(document)} of query {shorten(query)}"
        raise InputError(f"{place}: {pair} is graded {grade:g} here and {earlier:g} before")


class RunLine(NamedTuple):
    """A line of a run; `score` is None in MS MARCO's three columns. A rank or score is better than another when it is
    lower or higher, as trec_eval and MS MARCO have it."""

    document: str
    rank: float
    score: float | None


def read_ranked(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (query id, document id) of a run file, six columns (TREC) or three (MS MARCO), each query best first.

    The lines of a query are held in memory; of a file that mixes the lines of several queries, all lines are.

    Raises:
        InputError: naming file and line, as `read_run_lines`; and as `best_first`.
    """
    for query, lines in (_gathered if _is_mixed(file) else _successive)(file):
        for line in best_first(file, query, lines):
            yield query, line.document


def read_run(file: str | Path) -> dict[str, dict[str, float]]:
    """Read a TREC run file whole: query id → document id → score, each query best first.

    Raises:
        InputError: naming file and line, as `read_run_lines`, or where a document occurs twice; and as `best_first`.
    """
    run: dict[str, dict[str, float]] = {}
    for query, lines in _gathered(Path(file), columns=(6,)):
        run[query] = {line.document: line.score for line in best_first(file, query, lines)}
    if not run:
        raise InputError(f"{file}: the run is empty")
    return run


def is_trec_run(file: str | Path) -> bool:
    """Tell whether the first line of a file has the six columns of a TREC run, numbers in the fourth and fifth."""
    try:
        line = next(iter(first_lines(Path(file), 1)), "")
    except InputError:
        return False
    columns = line.split()
    is_top1000 = len(line.split("\t")) == 4
    return len(columns) == 6 and not is_top1000 and all(map(is_number, columns[3:5]))


def read_run_lines(file: Path, columns: Container[int] = (3, 6)) -> Iterator[tuple[int, str, RunLine]]:
    """Yield (line number, query id, line) in the order of a run file.

    Raises:
        InputError: naming file and line: another number of columns than `columns` has, or a rank or score that is no
            number.
    """
    for number, line in read_lines(file):
        values = line.split()
        if len(values) not in columns:
            expected = RUN_LAYOUTS if 3 in columns else f"the six columns {RUN_LAYOUTS.partition(' or ')[0]}"
            raise InputError(f"{file}, line {number}: expected {expected}, got {shorten(line)}")
        query, document, rank = values if len(values) == 3 else (values[0], *values[2:4])
        place = parse_number_at(file, number, rank, "a rank")
        if len(values) == 3 and (place < 0 or place % 1):
            raise InputError(
                f"{file}, line {number}: expected a whole number from 0 as the rank, got {rank}; scores stand in the "
                "fifth of six columns"
            )
        score = parse_score(values[4], file, number) if len(values) == 6 else None
        yield number, query, RunLine(document, place, score)


def best_first(file: str | Path, query: str, lines: list[RunLine]) -> list[RunLine]:
    """Sort the lines of a query by score, as trec_eval does; equal scores by rank, equal ranks as they stand.

    Raises:
        InputError: neither scores nor ranks tell any two of the documents apart.
    """
    told_apart = len(set(map(attrgetter("score", "rank"), lines))) > 1
    if not told_apart and len(set(map(attrgetter("document"), lines))) > 1:
        raise InputError(
            f"{file}: all {len(lines)} documents of query {shorten(query)} have rank {lines[0].rank:g} and the same "
            "score; expected scores or ranks that say which is best"
        )
    return sorted(lines, key=lambda line: (-(line.score or 0.0), line.rank))


def _is_mixed(file: Path) -> bool:
    """Tell whether the lines of some query are not next to each other."""
    seen: set[str] = set()
    for query, _ in groupby(line.split(None, 1)[0] for _, line in read_lines(file)):
        if query in seen:
            return True
        seen.add(query)
    return False


def _successive(file: Path) -> Iterator[tuple[str, list[RunLine]]]:
    """Yield (query id, its lines) of a file that has the lines of a query next to each other."""
    for query, entries in groupby(read_run_lines(file), key=itemgetter(1)):
        yield query, list(map(itemgetter(2), entries))


def _gathered(file: Path, columns: Container[int] = (3, 6)) -> Iterator[tuple[str, list[RunLine]]]:
    """Yield (query id, its lines) of any run file. Raises InputError where a query has a document twice."""
    queries: dict[str, dict[str, RunLine]] = {}
    for number, query, line in read_run_lines(file, columns):
        lines = queries.setdefault(query, {})
        if line.document in lines:
            place = f"{file}, line {number}"
            raise InputError(f"{place}: document {shorten(line.document)} occurs twice for query {shorten(query)}")
        lines[line.document] = line
    for query, lines in queries.items():
        yield query, list(lines.values())


def parse_score(text: str, file: str | Path, number: int) -> float:
    """Return a score to the last bit; raise InputError, naming file and line, for text that is no number."""
    if not is_number(text):
        raise InputError(f"{file}, line {number}: expected a number as the score, got {shorten(text)}")
    return float(text)


def is_number(text: str) -> bool:
    """Tell whether `text` is a number, infinite ones included; `1_0`, which Python reads as ten, is none."""
    try:
        return "_" not in text and not math.isnan(float(text))
    except ValueError:
        return False


def parse_number_at(file: Path, number: int, text: str, expected: str) -> float:
    """Return a number that float32 can hold. Raises InputError naming file and line number for any other text."""
    try:
        return parse_number(text, expected)
    except InputError as error:
        raise InputError(f"{file}, line {number}: {error}") from None
