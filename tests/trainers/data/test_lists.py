from dataclasses import replace

import pytest

from m3se.trainers.data.bm25 import BM25Index
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.lists import candidate_lists, training_lists
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError


@pytest.fixture(scope="module")
def collection():
    """Twenty documents with the word "tree", best match first: document i repeats it 20 − i times in 20 words."""
    texts = [" ".join(["tree"] * (20 - i) + ["leaf"] * i) for i in range(20)]
    documents = DocumentTable.from_texts([f"d{i}" for i in range(20)], texts)
    queries = {"q1": "tree", "q2": "trees", "q3": "leaf", "q4": "nothing like it"}
    qrels = {"q1": {"d2": 1.0, "d19": 2.0, "d3": 0.0}, "q2": {"d0": 1.0}, "q4": {"d0": 1.0}}
    return Collection("trees", documents, queries, qrels, {"source": "test"})


@pytest.fixture(scope="module")
def index(collection):
    return BM25Index.build(collection.documents)


def test_the_top_negatives_follow_the_positives_best_labelled_first(collection, index):
    rows = training_lists(collection, index, 5, depth=10, negatives="top").rows.to_list()
    assert rows[0]["document_ids"] == ["d19", "d2", "d0", "d1", "d3"] and rows[0]["labels"] == [2, 1, 0, 0, 0]
    assert rows[1]["document_ids"] == ["d0", "d1", "d2", "d3", "d4"] and rows[1]["query"] == "trees"


def test_queries_without_positive_or_candidates_are_dropped_and_counted(collection, index):
    lists = training_lists(collection, index, 5, depth=10)
    assert lists.rows["query_id"][:] == ["q1", "q2"]
    assert lists.report["lists"]["queries_dropped_without_positive"] == 1
    assert lists.report["lists"]["queries_dropped_with_too_few_candidates"] == 1
    assert lists.report["collection"] == {"source": "test"}


def test_random_negatives_are_distinct_come_from_the_depth_and_are_no_positives(collection, index):
    seen = set()
    for seed in range(20):
        row = training_lists(collection, index, 6, depth=10, seed=seed).rows[0]
        negatives = row["document_ids"][2:]
        assert row["document_ids"][:2] == ["d19", "d2"] and len(set(negatives)) == 4
        seen |= set(negatives)
    assert seen == {f"d{i}" for i in range(10)} - {"d2"}


def test_a_draw_depends_on_seed_and_query_id_not_on_the_other_queries(collection, index):
    rows = training_lists(collection, index, 6, depth=15, seed=3).rows
    assert rows.to_list() == training_lists(collection, index, 6, depth=15, seed=3).rows.to_list()
    backwards = replace(collection, queries=dict(reversed(collection.queries.items())))
    assert training_lists(backwards, index, 6, depth=15, seed=3).rows.to_list() == rows.to_list()[::-1]
    assert training_lists(collection, index, 6, depth=15, seed=4).rows.to_list() != rows.to_list()


def test_of_too_many_positives_the_best_are_kept_and_a_negative_always(collection, index):
    lists = training_lists(collection, index, 2, depth=10)
    assert lists.rows[0]["labels"] == [2, 0]
    assert lists.report["lists"]["positives_dropped_over_k"] == 1
    assert lists.rows[0]["positive_ids"] == ["d2"] and lists.rows[1]["positive_ids"] == []


def test_k_above_the_depth_is_refused_with_the_numbers(collection, index):
    with pytest.raises(InputError, match="at most depth \\+ 1 = 11, got 12"):
        training_lists(collection, index, 12, depth=10)


def test_k_above_what_any_query_has_names_the_richest_query(collection, index):
    with pytest.raises(InputError, match="30 documents per query .* 'q1', has 20 candidates .depth 100, 20 documents"):
        training_lists(collection, index, 30, depth=100)


def test_a_collection_without_positives_is_refused(collection, index):
    with pytest.raises(InputError, match="trees: none of 4 queries has a positive document"):
        training_lists(replace(collection, qrels={"q1": {"d0": 0.0}}), index, 5)


def test_evaluation_lists_are_the_candidates_as_they_are(collection, index):
    lists = candidate_lists(collection, index, 3)
    rows = lists.rows.to_list()
    assert rows[0]["document_ids"] == ["d0", "d1", "d2"] and rows[0]["labels"] == [0, 0, 1]
    assert [row["query_id"] for row in rows] == ["q1", "q2", "q3"]
    assert lists.report["lists"] == {
        "rows": 3,
        "candidates": "BM25 (k1 0.9, b 0.4, stemmer english)",
        "depth": 3,
        "recall": pytest.approx((1 / 2 + 1 + 0) / 3),
        "queries_dropped_without_candidates": 1,
    }


def test_rows_can_be_streamed_to_a_file(collection, index, tmp_path):
    lists = candidate_lists(collection, index, 3, path=tmp_path / "rows.arrow")
    assert lists.rows.cache_files[0]["filename"] == str(tmp_path / "rows.arrow")
    assert lists.rows.to_list() == candidate_lists(collection, index, 3).rows.to_list()
