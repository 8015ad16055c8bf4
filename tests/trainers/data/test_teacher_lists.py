import math

import pytest

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.lists import teacher_lists
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
