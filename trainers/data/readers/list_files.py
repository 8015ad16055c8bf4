"""Files of candidate lists and triples that name queries and documents by their ids.

    query Q0 document rank score tag                         run (TREC)
    query document rank                                      run (MS MARCO)
    query positive negative                                  triples (MS MARCO qidpidtriples)
    score_pos score_neg query positive negative              scored_triples (Hofstätter et al., T1 and T2)
    query document query-text document-text                  top1000 (MS MARCO)

The lines of a file say which of these it is; where they may say two things, the user says it (`--candidates_format`).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from m3se.trainers.data.readers.source import Pair, Stream
from m3se.trainers.data.readers.text_files import first_lines, plain_name, read_columns, read_lines, wrong_columns
from m3se.trainers.data.readers.trec import is_number, parse_number_at, read_ranked
from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError, shorten
from m3se.trainers.storage.atomic import complete_file
from m3se.trainers.storage.cache import file_key


Format = Literal["run", "triples", "scored_triples", "top1000"]

TRIPLE = ("query", "positive", "negative")
SCORED_TRIPLE = ("score of the positive", "score of the negative", *TRIPLE)
TOP1000 = ("query", "document", "query text", "document text")
LINES_LOOKED_AT = 1_000_000  # for a repeated pair, which real triples have among their first thousand
DEEPEST_RANK = 10_000  # runs are not longer, so that a higher number is an id


def check_format(name: str) -> None:
    """Raise InputError when `name` is neither auto nor the name of a format."""
    if name not in ("auto", *get_args(Format)):
        raise InputError(f"--candidates_format: expected auto, {', '.join(get_args(Format))}, got {name!r}")


def detect_format(file: Path) -> Format | None:
    """Tell the format of a file of lists from its lines; None when it is none of these.

    Raises:
        InputError: the file is empty, or its lines fit two formats.
    """
    lines = first_lines(file, 1)
    if not lines:
        raise InputError(f"{file}: is empty")
    columns = lines[0].split()
    if lines[0].lstrip()[0] in "[{":
        return None
    if len(lines[0].split("\t")) == len(TOP1000) and has_texts(file, len(TOP1000)):
        return "top1000"
    if len(columns) == 6 and is_number(columns[3]) and is_number(columns[4]):
        return "run"
    if len(columns) == len(SCORED_TRIPLE) and is_number(columns[0]) and is_number(columns[1]):
        return _refuse_run_without_tag(file)
    return _run_or_triples(file) if len(columns) == len(TRIPLE) else None


def has_texts(file: Path, columns: int) -> bool:
    """Tell whether any column but the first two of a table with tabs has several words, so that it is no id.

    In a table of three columns, all of which may be texts, the first two are looked at too.
    """
    start = 0 if columns == 3 else 2
    for _, line in read_lines(file):
        values = line.split("\t")
        if len(values) == columns and any(" " in value.strip() for value in values[start:]):
            return True
    return False


def _refuse_run_without_tag(file: Path) -> Format:
    """Return "scored_triples". Raises InputError when the second column is 0 on every line, as a run's may be."""
    if all(line.split()[1:2] == ["0"] for _, line in read_lines(file)):
        raise InputError(
            f"{file}: its second column is 0 on every line, as in a run without a tag; expected "
            f"'query Q0 document rank score tag', or --candidates_format scored_triples ({', '.join(SCORED_TRIPLE)})"
        )
    return "scored_triples"


def _run_or_triples(file: Path) -> Format:
    """Tell a run of three columns from triples of ids.

    In a run, the third column counts up from 0 or 1 for every query, to the end of the file, and no document of a
    query is repeated. In triples it holds ids that are no numbers; or it counts otherwise, and the file is called
    triples, or a pair of query and positive is repeated and a number is too high for a rank.

    Raises:
        InputError: neither is so.
    """
    is_called_triples = "triples" in plain_name(file)
    ranks: dict[str, float] = {}
    counts_up, highest, is_repeated, seen = True, 0.0, False, set()
    for position, (number, line) in enumerate(read_lines(file)):
        values = line.split()
        if len(values) != len(TRIPLE):
            raise InputError(wrong_columns(file, number, line, TRIPLE))
        query, document, third = values
        if not is_number(third):
            if position == 0:  # of ids, or a header
                continue
            return "triples"
        counts_up = counts_up and float(third) in ((0, 1) if query not in ranks else (ranks[query] + 1,))
        ranks[query] = float(third)
        highest = max(highest, float(third))
        if counts_up and not is_called_triples:
            continue
        is_repeated = is_repeated or (query, document) in seen
        if is_called_triples and (is_repeated or not counts_up) or is_repeated and highest > DEEPEST_RANK:
            return "triples"
        seen.add((query, document))
        if len(seen) > LINES_LOOKED_AT:
            break
    if not ranks:
        return "triples"
    if counts_up and not is_called_triples:
        return "run"
    raise InputError(
        f"{file}: its three columns may be a run (query, document, rank) or triples of ids ({', '.join(TRIPLE)}); say "
        "which with --candidates_format run or --candidates_format triples"
    )


def read_list_file(file: Path, stated: Format | Literal["auto"] = "auto") -> tuple[Stream[Pair], Format]:
    """Describe the pairs of a file of lists, and return its format: the stated one, or that of its lines.

    Raises:
        InputError: there is no such file, or its format cannot be told. Reading the pairs raises it naming the line.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file of candidates")
    format_name = detect_format(file) if stated == "auto" else stated
    if format_name is None:
        expected = "a run, triples of ids, teacher scores or top1000 (see docs/data.md)"
        raise InputError(f"{file}: expected {expected}, got {shorten(first_lines(file, 1)[0])}")
    read = {
        "run": _run_pairs,
        "triples": _triple_pairs,
        "scored_triples": _scored_pairs,
        "top1000": _top1000_pairs,
    }[format_name]
    return Stream(str(file), [*file_key(file), format_name], lambda: read(file)), format_name


def _run_pairs(file: Path) -> Iterator[Pair]:
    for query, document in read_ranked(file):
        yield Pair(query, document)


def _triple_pairs(file: Path) -> Iterator[Pair]:
    for _, (query, positive, negative) in read_columns(file, TRIPLE, separator=None):
        yield Pair(query, positive, 1.0)
        yield Pair(query, negative)


def _scored_pairs(file: Path) -> Iterator[Pair]:
    for number, (high, low, query, positive, negative) in read_columns(file, SCORED_TRIPLE, separator=None):
        yield Pair(query, positive, 1.0, parse_number_at(file, number, high, "a teacher score"))
        yield Pair(query, negative, 0.0, parse_number_at(file, number, low, "a teacher score"))


def _top1000_pairs(file: Path) -> Iterator[Pair]:
    for _, (query, document, _, _) in read_columns(file, TOP1000):
        yield Pair(query, document)


def write_scored_triples(lists: RankingLists, path: str | Path) -> int:
    """Write teacher scores as Hofstätter's tsv, and return the number of lines.

    There is a line for every pair of a positive and a negative of a row whose scores are known. The file appears only
    when complete.

    Raises:
        InputError: the lists have no teacher scores, an id holds white space, or no line could be written.
    """
    if "teacher_scores" not in lists.rows.column_names:
        raise InputError("the lists have no teacher scores to write; run score_with_teacher.py first")
    count = 0
    with complete_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in lists.rows:
            for line in _scored_lines(row):
                file.write(line)
                count += 1
        if count == 0:
            raise InputError(f"{path}: no row has a scored positive and a scored negative; nothing to write")
    return count


def _scored_lines(row: dict) -> Iterator[str]:
    for name in (row["query_id"], *row["document_ids"]):
        if name.split() != [name]:
            raise InputError(
                f"id {shorten(name)} cannot be written to a table of triples: ids there have no white space"
            )
    positives, negatives = [], []
    for document, label, score in zip(row["document_ids"], row["labels"], row["teacher_scores"], strict=True):
        if not math.isnan(score):
            (positives if label > 0 else negatives).append((document, score))
    for positive, high in positives:
        for negative, low in negatives:
            yield f"{high!r}\t{low!r}\t{row['query_id']}\t{positive}\t{negative}\n"
