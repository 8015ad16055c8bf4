"""Files of candidate lists and triples that name queries and documents by their ids.

What a file is, is told by its first lines:

    query Q0 document rank score tag                         TREC run
    query document rank                                      MS MARCO run
    query positive negative                                  MS MARCO qidpidtriples
    score_pos score_neg query positive negative              teacher scores of Hofstätter et al., T1 and T2
    query document query-text document-text                  MS MARCO top1000
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from m3se.trainers.data.readers.pairs import Pair
from m3se.trainers.data.readers.text_files import first_lines, plain_name, read_columns
from m3se.trainers.data.readers.trec import parse_number, read_ranked
from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError, shorten


Kind = Literal["run", "triples", "scored triples", "top1000"]

TRIPLE = ("query", "positive", "negative")
SCORED_TRIPLE = ("score of the positive", "score of the negative", *TRIPLE)
TOP1000 = ("query", "document", "query text", "document text")


def detect_kind(file: Path) -> Kind | None:
    """What the first lines say the file is; None when it is none of these."""
    lines = first_lines(file, 3)
    if not lines:
        raise InputError(f"{file}: is empty")
    tabbed, spaced = lines[0].split("\t"), lines[0].split()
    if len(tabbed) == 4 and " " in tabbed[3]:
        return "top1000"
    if len(spaced) == 6 and _is_number(spaced[3]) and _is_number(spaced[4]):
        return "run"
    if len(spaced) == 5 and _is_number(spaced[0]) and _is_number(spaced[1]):
        return "scored triples"
    if len(spaced) == 3:
        thirds = [line.split()[-1] for line in lines]
        counts_up = thirds == ["1", "2", "3"][: len(thirds)]
        return "run" if counts_up and "triples" not in plain_name(file) else "triples"
    return None


def read_pairs(file: Path) -> Iterator[Pair]:
    """The pairs of a file of any of these kinds. Raises InputError naming the file, and the line if there is one."""
    readers = {
        "run": _run_pairs,
        "triples": _triple_pairs,
        "scored triples": _scored_pairs,
        "top1000": _top1000_pairs,
    }
    kind = detect_kind(file)
    if kind is None:
        expected = "a run, triples of ids, teacher scores or top1000 (see trainers/data/list_files.py)"
        raise InputError(f"{file}: expected {expected}, got {shorten(first_lines(file, 1)[0])}")
    return readers[kind](file)


def _run_pairs(file: Path) -> Iterator[Pair]:
    for query, document in read_ranked(file):
        yield Pair(query, document)


def _triple_pairs(file: Path) -> Iterator[Pair]:
    for _, (query, positive, negative) in read_columns(file, TRIPLE, separator=None):
        yield Pair(query, positive, 1.0)
        yield Pair(query, negative)


def _scored_pairs(file: Path) -> Iterator[Pair]:
    for number, (score_of_positive, score_of_negative, query, positive, negative) in read_columns(
        file, SCORED_TRIPLE, separator=None
    ):
        yield Pair(query, positive, 1.0, parse_number(score_of_positive, "a teacher score", file, number))
        yield Pair(query, negative, 0.0, parse_number(score_of_negative, "a teacher score", file, number))


def _top1000_pairs(file: Path) -> Iterator[Pair]:
    for _, (query, document, _, _) in read_columns(file, TOP1000):
        yield Pair(query, document)


def write_scored_triples(lists: RankingLists, path: str | Path) -> int:
    """Write teacher scores as Hofstätter's tsv: a line for every pair of a positive and a negative of a row whose
    scores are known. The file appears only when complete; returns the number of lines.

    Raises InputError when the lists have no teacher scores, an id holds white space, or no line could be written.
    """
    if "teacher_scores" not in lists.rows.column_names:
        raise InputError("the lists have no teacher scores to write; run score_with_teacher.py first")
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    written = 0
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            for row in lists.rows:
                lines = list(_scored_lines(row))
                file.writelines(lines)
                written += len(lines)
        if written == 0:
            raise InputError(f"{path}: no row has a scored positive and a scored negative; nothing to write")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return written


def _scored_lines(row: dict) -> Iterator[str]:
    for name in (row["query_id"], *row["document_ids"]):
        if name.split() != [name]:
            raise InputError(
                f"id {shorten(name)} cannot be written to a table of triples: ids there have no white space"
            )
    known = [
        (document, label, score)
        for document, label, score in zip(row["document_ids"], row["labels"], row["teacher_scores"], strict=True)
        if not math.isnan(score)
    ]
    for positive, _, high in (entry for entry in known if entry[1] > 0):
        for negative, _, low in (entry for entry in known if entry[1] <= 0):
            yield f"{high!r}\t{low!r}\t{row['query_id']}\t{positive}\t{negative}\n"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
