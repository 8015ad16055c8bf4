"""Run files as systems write them: ranks from 0 or 1 or none, lines in any order, scores against ranks, ties."""

import random
from pathlib import Path

import pytest
from hypothesis import strategies as st

from m3se.trainers.data.readers.trec import read_ranked, read_run
from m3se.trainers.errors import InputError


SCORES = [-1.5, 0.0, 0.25, 2.0, 1e6]


@st.composite
def ranked_case(draw) -> tuple:
    """Make a run of a few queries: it must be read by falling score, then by rising rank, or refused if all tie."""
    columns, numbering = draw(st.sampled_from([3, 6])), draw(st.sampled_from(["from 0", "from 1", "none"]))
    separator = "\t" if columns == 3 else draw(st.sampled_from([" ", "\t"]))
    lines = []
    for query in range(draw(st.integers(1, 3))):
        for place, document in enumerate(draw(st.lists(st.integers(0, 99), min_size=1, max_size=5, unique=True))):
            rank = {"from 0": place, "from 1": place + 1, "none": 0}[numbering]
            lines.append((f"q{query}", f"d{document}", rank, draw(st.sampled_from(SCORES)) if columns == 6 else 0.0))
    if draw(st.booleans()):
        random.Random(draw(st.integers(0, 99))).shuffle(lines)
    content = "".join(separator.join(cells(columns, *line)) + "\n" for line in lines)

    def read(folder: Path) -> None:
        file = folder / "run.trec"
        expected, all_tie = ranking(lines)
        if all_tie:
            with pytest.raises(InputError, match="expected scores or ranks that say which is best"):
                list(read_ranked(file))
            raise InputError(f"{file}: documents tie")
        documents: dict[str, list[str]] = {}
        for query, document in read_ranked(file):
            documents.setdefault(query, []).append(document)
        assert documents == expected
        if columns == 6:
            assert {query: list(scores) for query, scores in read_run(file).items()} == expected

    return read, {"run.trec": content.encode()}, False


def cells(columns: int, query: str, document: str, rank: int, score: float) -> list[str]:
    """Write a line's cells in MS MARCO's three columns or in TREC's six."""
    return [query, document, str(rank)] if columns == 3 else [query, "Q0", document, str(rank), repr(score), "tag"]


def ranking(lines: list[tuple]) -> tuple[dict[str, list[str]], bool]:
    """Rank the documents of each query; tell whether all of some query's documents tie."""
    by_query: dict[str, list[tuple]] = {}
    for line in lines:
        by_query.setdefault(line[0], []).append(line)
    ranked, all_tie = {}, False
    for query, entries in by_query.items():
        all_tie |= len(entries) > 1 and len({line[2:] for line in entries}) == 1
        ranked[query] = [line[1] for line in sorted(entries, key=lambda line: (-line[3], line[2]))]
    return ranked, all_tie
