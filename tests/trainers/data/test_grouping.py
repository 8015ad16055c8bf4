import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.grouping import sample_row, teacher_lists
from m3se.trainers.data.schema import CANDIDATE_FEATURES, SCORED_CANDIDATE_FEATURES, Collection
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


def build_collection(lists, qrels):
    documents = DocumentTable.from_texts(list("abcdef"), list("abcdef"))
    rows = [
        {"query_id": query, "document_ids": list(scores), "teacher_scores": list(scores.values())}
        for query, scores in lists.items()
    ]
    queries = {query: f"text {query}" for query in [*lists, "unlisted"]}
    collection = Collection("c", documents, queries, qrels)
    collection.candidates = write_rows(rows, SCORED_CANDIDATE_FEATURES)
    return collection


SCORES = {"a": 1.0, "b": 5.0, "c": 3.0, "d": math.nan, "e": 4.0}


def test_positives_stay_and_the_rest_goes_by_teacher_score():
    lists = teacher_lists(build_collection({"q": SCORES}, {"q": {"a": 1.0, "c": 2.0, "f": 1.0}}), 4)
    assert lists.rows[0] == {
        "query_id": "q",
        "query": "text q",
        "document_ids": ["c", "a", "b", "e"],
        "labels": [2, 1, 0, 0],
        "teacher_scores": [3, 1, 5, 4],
        "positive_ids": ["f"],
    }
    assert lists.report["lists"]["queries_dropped_without_list"] == 1


def test_positives_beyond_k_are_left_out_named_and_counted():
    lists = teacher_lists(build_collection({"q": SCORES}, {"q": {"a": 1.0, "c": 2.0}}), 2)
    assert lists.rows[0]["document_ids"] == ["c", "b"] and lists.rows[0]["positive_ids"] == ["a"]
    assert lists.report["lists"]["positives_dropped_over_k"] == 1


def test_all_are_kept_when_asked_for_unknown_scores_last():
    row = teacher_lists(build_collection({"q": SCORES}, {"q": {"a": 1.0}}), None).rows[0]
    assert row["document_ids"] == ["a", "b", "e", "c", "d"] and math.isnan(row["teacher_scores"][-1])


def test_lists_without_positive_or_negative_are_dropped_and_counted():
    lists = {"q": SCORES, "r": {"a": 1.0, "b": 2.0}, "s": {"a": 1.0}}
    grouped = teacher_lists(build_collection(lists, {"q": {"a": 1.0}, "r": {"c": 1.0}, "s": {"a": 1.0}}), 3)
    assert grouped.rows["query_id"][:] == ["q"]
    assert grouped.report["lists"]["lists_dropped_without_positive_or_negative"] == 2
    with pytest.raises(InputError, match="no list has both a positive and a negative"):
        teacher_lists(build_collection(lists, {"q": {"f": 1.0}}), 3)


def test_scores_without_any_judgment_make_lists_of_label_0():
    row = teacher_lists(build_collection({"q": SCORES}, {}), 2).rows[0]
    assert row["document_ids"] == ["b", "e"] and row["labels"] == [0, 0]


def test_lists_without_teacher_scores_are_refused():
    collection = build_collection({"q": SCORES}, {"q": {"a": 1.0}})
    with pytest.raises(InputError, match="expected at least 2, got 1"):
        teacher_lists(collection, 1)
    collection.candidates = write_rows([{"query_id": "q", "document_ids": ["a"]}], CANDIDATE_FEATURES)
    with pytest.raises(InputError, match="have no teacher scores"):
        teacher_lists(collection, 2)


ROW = {
    "query_id": "q",
    "query": "text",
    "document_ids": list("abcdef"),
    "labels": [1.0, 0.0, 0.0, 2.0, 0.0, 0.0],
    "teacher_scores": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    "positive_ids": ["x"],
}


def test_a_sampled_row_keeps_positives_and_draws_negatives():
    row = sample_row(ROW, 4, seed=0, epoch=0)
    assert row["labels"] == [1, 2, 0, 0] and row["document_ids"][:2] == ["a", "d"] and row["positive_ids"] == ["x"]
    assert row["teacher_scores"] == [float("abcdef".index(document)) for document in row["document_ids"]]
    assert row["query"] == "text"


def test_epochs_and_seeds_draw_differently_and_reach_all_negatives():
    drawn = [sample_row(ROW, 4, seed=0, epoch=epoch)["document_ids"] for epoch in range(30)]
    assert drawn == [sample_row(ROW, 4, seed=0, epoch=epoch)["document_ids"] for epoch in range(30)]
    assert {document for row in drawn for document in row[2:]} == set("bcef")
    assert drawn != [sample_row(ROW, 4, seed=1, epoch=epoch)["document_ids"] for epoch in range(30)]


def test_with_more_positives_than_room_another_one_is_drawn_and_the_rest_is_no_negative():
    rows = [sample_row(ROW, 2, seed=0, epoch=epoch) for epoch in range(30)]
    assert {row["document_ids"][0] for row in rows} == {"a", "d"}
    for row in rows:
        assert row["labels"][1] == 0 and {row["document_ids"][0], *row["positive_ids"]} == {"a", "d", "x"}


def test_a_short_row_comes_back_as_it_is():
    assert sample_row(ROW, 6, seed=0, epoch=0) is ROW
    with pytest.raises(InputError, match="expected at least 2, got 1"):
        sample_row(ROW, 1, seed=0, epoch=0)


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=12), size=st.integers(2, 12), epoch=st.integers(0, 9))
def test_a_sample_is_part_of_the_row_with_its_own_labels(labels, size, epoch):
    ids = [f"d{place}" for place in range(len(labels))]
    row = sample_row({"query_id": "q", "document_ids": ids, "labels": labels}, size, seed=1, epoch=epoch)
    assert len(set(row["document_ids"])) == len(row["document_ids"]) <= size
    assert row["labels"] == [labels[ids.index(document)] for document in row["document_ids"]]
    positives = sum(label > 0 for label in labels)
    if len(labels) > size:
        assert sum(label > 0 for label in row["labels"]) == min(positives, size - 1)
