import numpy as np
import pytest

from m3se.trainers.data import ROW_FEATURES, RankingLists
from m3se.trainers.diagnostics.disagreement import (
    Pair,
    disagreement_table,
    largest_disagreements,
    queries_apart,
    reciprocal_rank,
    score_gaps,
    side_by_side,
    token_overlap,
)
from m3se.trainers.diagnostics.scored_lists import scored_lists
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


ROWS = np.array([0, 0, 0, 1, 1, 1])
LABELS = np.array([1, 0, 0, 0, 1, 0])
LOW = np.array([9.0, 1.0, 0.0, 0.0, 5.0, 3.0])
HIGH = np.array([90.0, 95.0, 10.0, 20.0, 30.0, 25.0])


def test_disagreements_are_negatives_one_per_query_largest_gap_first():
    gaps = score_gaps(LOW, HIGH)
    # the scores' means and deviations: 3 and √(62/6), 45 and √(7 000/6)
    assert gaps[1] == pytest.approx((95 - 45) / np.sqrt(7000 / 6) - (1 - 3) / np.sqrt(62 / 6))
    assert largest_disagreements(LOW, HIGH, LABELS, ROWS, 5) == [1, 3]
    assert largest_disagreements(LOW, HIGH, LABELS, ROWS, 1) == [1]
    assert largest_disagreements(LOW, HIGH, np.ones(6), ROWS, 5) == []


def test_the_scale_of_a_model_does_not_matter():
    assert score_gaps(LOW * 7 + 3, HIGH * 0.01 - 5) == pytest.approx(score_gaps(LOW, HIGH))


def test_token_overlap_counts_distinct_words_in_any_case():
    assert token_overlap("Read the the file", "THE reader has a file") == pytest.approx(2 / 3)
    assert token_overlap("?!", "anything") == 0.0


def test_the_table_keeps_its_columns_whatever_the_texts_hold():
    pair = Pair("a | b", "d1", "line\nbreak | <br> " + "x" * 400, 0.0, -1.234, 5.678, 2.04, 0.5)
    lines = disagreement_table([pair], "CA", "DE").splitlines()
    assert lines[0].split(" | ")[3:5] == ["CA score", "DE score"]
    row = lines[2]
    assert row.replace("\\|", "").count("|") == lines[0].count("|")
    assert "| -1.23 | 5.68 | 2.0 | 50% |" in row
    assert "&lt;br>" in row and len(row) < 400


def test_reciprocal_rank_breaks_ties_against_the_model():
    assert reciprocal_rank(np.zeros(3), np.array([1, 0, 0])) == pytest.approx(1 / 3)
    assert reciprocal_rank(np.array([1.0, 2.0]), np.zeros(2)) == 0.0


def test_queries_apart_takes_from_both_sides():
    # 6 queries of 2 documents; the first document is relevant. Reciprocal ranks: first model 1 1 1 .5 1 .5
    labels, rows = np.tile([1, 0], 6), np.repeat(np.arange(6), 2)
    first = np.array([1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1.0])
    second = np.array([0, 1, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1.0])  # 1/2 1/2 1/2 1 1 1/2
    found = [int(rows[part[0]]) for part in queries_apart(first, second, labels, rows, 2)]
    assert found == [3, 0]  # one where the second is better, one where it is worse
    assert len(queries_apart(first, second, labels, rows, 10)) == 4  # queries 4 and 5 do not differ
    assert len(queries_apart(first, second, labels, rows, 3)) == 3


def test_side_by_side_marks_relevant_documents():
    text = side_by_side("q", ("CA", "DE"), ([("good", 2.0), ("bad", 0.0)], [("bad", 0.0), ("good", 2.0)]))
    assert text.splitlines()[2:] == [
        "| rank | CA | DE |",
        "| --- | --- | --- |",
        "| 1 | ✔ (2) good | bad |",
        "| 2 | bad | ✔ (2) good |",
    ]


def test_scored_lists_leave_out_what_a_model_could_not_score(collection):
    rows = [
        {"query_id": "q1", "query": "one", "document_ids": ["d1", "d2"], "labels": [1, 0]},
        {"query_id": "q2", "query": "two", "document_ids": ["d3"], "labels": [0]},
    ]
    lists = RankingLists(write_rows(rows, ROW_FEATURES), collection.documents)
    scored = scored_lists(lists, {"CA": [[1.0, -np.inf], [2.0]], "DE": [[3.0, 4.0], [5.0]]})
    assert scored.rows.tolist() == [0, 1]
    assert scored.scores["DE"].tolist() == [3.0, 5.0]
    assert (scored.query(1), scored.text(1)) == ("two", collection.documents.texts(["d3"])[0])
    columns = scored.columns()
    assert columns["query_id"].tolist() == ["q1", "q2"]
    assert columns["score CA"].tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match="no document has a finite score"):
        scored_lists(lists, {"CA": [[np.nan, -np.inf], [np.inf]]})
