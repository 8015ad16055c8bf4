"""Files of scores or ranks as teachers."""

import numpy as np
import pytest

from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.data.schema import ROW_FEATURES
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.teacher.annotate import annotate
from m3se.trainers.teacher.calibration import calibrate
from m3se.trainers.teacher.list_teachers import RunTeacher


IDS = {"q1": ["a", "b", "c"], "q2": ["c", "d"]}


@pytest.fixture
def lists():
    rows = []
    for query, ids in IDS.items():
        labels = [1.0] + [0.0] * (len(ids) - 1)
        rows.append({"query_id": query, "query": query, "document_ids": ids, "labels": labels})
    return RankingLists(write_rows(rows, ROW_FEATURES), DocumentTable.from_texts(list("abcd"), list("abcd")))


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        (tmp_path / "file.txt").write_text(text, encoding="utf-8")
        return str(tmp_path / "file.txt")

    return write


TREC = "q1 Q0 c 1 9.5 x\nq1 Q0 z 2 8 x\nq1 Q0 a 3 -1.25 x\nq2 Q0 d 1 4 x\n"
RANKS = "q1\tc\t1\nq1\tz\t2\nq1\ta\t3\nq2\td\t1\n"
NAN = float("nan")


@pytest.mark.parametrize(
    "text, rule, expected",
    [
        (TREC, None, [-1.25, NAN, 9.5, NAN, 4]),
        ("q1 c 9.5\nq1 a -1.25\nq2 d 4\n", None, [-1.25, NAN, 9.5, NAN, 4]),
        (TREC, "reciprocal", [1 / 3, NAN, 1, NAN, 1]),
        (RANKS, "reciprocal", [1 / 3, NAN, 1, NAN, 1]),
        (RANKS, "linear", [1 / 3, NAN, 1, NAN, 1]),
        ("q1 a 1\nq1 b 2\nq1 c 3\nq1 d 4\n", "linear", [1, 0.75, 0.5, NAN, NAN]),
        ("q1 a 1\nq1 b 2\nq1 c 3\nq1 d 4\n", "reciprocal", [1, 1 / 2, 1 / 3, NAN, NAN]),
    ],
)
def test_scores_are_joined_by_ids(lists, write, text, rule, expected):
    column = RunTeacher(write(text), rule).column(lists)
    np.testing.assert_allclose(column, expected, rtol=1e-6)


def test_a_run_annotates_lists_and_what_it_means_is_recorded(lists, write, tmp_path):
    scored = annotate(lists, [RunTeacher(write(RANKS), "reciprocal")], tmp_path / "cache", progress=False)
    assert scored.report["teachers"][0]["rank_targets"] == "reciprocal"
    calibration = calibrate(scored)
    assert (calibration.pairs, calibration.unknown) == (3, 2)
    assert calibration.as_dict()["rank_targets"] == "reciprocal"


@pytest.mark.parametrize(
    "text, rule, message",
    [
        (RANKS, None, "has ranks and no scores; say with --rank_targets reciprocal or linear"),
        (TREC, "square", "rank_targets: expected reciprocal or linear, got 'square'"),
        ("q1 a\n", None, "line 1: expected 'query Q0 document rank score tag' or 'query document score'"),
        ("q1 a 1.5\nq1 a 2\n", None, "line 2: document 'a' occurs twice"),
    ],
)
def test_what_is_no_run_is_refused(write, text, rule, message):
    with pytest.raises(InputError, match=message):
        RunTeacher(write(text), rule)


def test_a_run_of_other_data_is_refused(lists, write):
    with pytest.raises(InputError, match="none of the 5 pairs of the lists is in this run"):
        RunTeacher(write("q9 a 0.5\n")).column(lists)
