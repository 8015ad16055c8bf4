"""TREC's files: judgments (qrels) and ranked lists (runs), with MS MARCO's and BEIR's variants of them."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from m3se.trainers.data.readers.text_files import read_lines, shorten
from m3se.trainers.errors import InputError


Qrels = dict[str, dict[str, float]]  # query id → document id → grade

QRELS_LAYOUTS = "'query 0 document grade' or 'query document grade'"
LARGEST = 3.4028235e38  # of float32, in which grades and scores are kept
RUN_LAYOUTS = "'query Q0 document rank score tag' or 'query document rank'"


def read_qrels(file: Path, counts: Counter[str] | None = None) -> Qrels:
    """Judgments: query id → document id → grade; four columns (TREC) or three (BEIR, with or without its header).

    What is said twice is counted in `counts`. Raises InputError naming file and line: other columns, a grade that is
    no number, a pair with two grades.
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
        grade = parse_number(columns[-1], "a grade", file, number)
        judge(qrels, columns[0], columns[-2], grade, f"{file}, line {number}", counts)
    return qrels


def judge(qrels: Qrels, query: str, document: str, grade: float, place: str, counts: Counter[str]) -> None:
    """Add a judgment, or count it as repeated. Raises InputError naming its `place` when it contradicts another."""
    known = qrels.setdefault(query, {}).get(document)
    if known not in (None, grade):
        raise InputError(
            f"{place}: document {shorten(document)} of query {shorten(query)} is graded {grade:g} here and {known:g} "
            "before"
        )
    if known is not None:
        counts["judgments_dropped_as_repeated"] += 1
    qrels[query][document] = grade


def read_ranked(file: Path) -> Iterator[tuple[str, str]]:
    """(query id, document id) in the order of a run file, six columns (TREC) or three (MS MARCO).

    Raises InputError naming file and line: other columns, a rank that is no number, a query whose ranks fall (the
    order of its lines would not be its ranking).
    """
    ranks: dict[str, float] = {}
    for number, line in read_lines(file):
        columns = line.split()
        if len(columns) not in (3, 6):
            raise InputError(f"{file}, line {number}: expected {RUN_LAYOUTS}, got {shorten(line)}")
        query, document, rank = columns if len(columns) == 3 else (columns[0], *columns[2:4])
        place = parse_number(rank, "a rank", file, number)
        if place < ranks.setdefault(query, place):
            raise InputError(
                f"{file}, line {number}: rank {rank:.20} of query {shorten(query)} comes after its rank "
                f"{ranks[query]:g}; "
                "expected the lines of a query best first"
            )
        ranks[query] = place
        yield query, document


def parse_number(text: str, what: str, file: Path, number: int) -> float:
    """`text` as a number that float32 can hold, or an InputError that says where it is not one."""
    try:
        value = float(text) if "_" not in text else math.nan  # Python reads 1_0 as ten
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise InputError(f"{file}, line {number}: expected {what}, got {shorten(text)}")
    return value
