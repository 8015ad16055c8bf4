import pytest

from m3se.trainers.data.bm25 import BM25Index
from m3se.trainers.data.candidates import OwnCandidates, RandomCandidates, candidate_source
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.lists import training_lists
from m3se.trainers.data.schema import CANDIDATE_FEATURES, Collection
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


@pytest.fixture
def collection():
    documents = DocumentTable.from_texts([f"d{i}" for i in range(10)], [f"word{i} same" for i in range(10)])
    return Collection("ten", documents, {"a": "word3", "b": "same"}, {"a": {"d9": 1.0}, "b": {"d0": 1.0}})


def with_lists(collection):
    rows = [{"query_id": "b", "document_ids": ["d5", "d0", "d6"]}]
    collection.candidates = write_rows(rows, CANDIDATE_FEATURES)
    return collection


def test_own_lists_are_given_in_their_order_and_none_for_other_queries(collection):
    source = OwnCandidates(with_lists(collection))
    assert list(source.ranked(collection, ["a", "b"], 2)) == [("a", []), ("b", ["d5", "d0"])]


def test_a_collection_without_lists_says_so(collection):
    with pytest.raises(InputError, match="ten: brings no lists of its own"):
        OwnCandidates(collection)


def test_random_candidates_depend_on_seed_and_query_only(collection):
    ranked = dict(RandomCandidates(1).ranked(collection, ["a", "b"], 4))
    assert len(set(ranked["a"])) == 4 and ranked["a"] != ranked["b"]
    assert dict(RandomCandidates(1).ranked(collection, ["b"], 4)) == {"b": ranked["b"]}
    assert dict(RandomCandidates(2).ranked(collection, ["b"], 4)) != {"b": ranked["b"]}
    assert sorted(dict(RandomCandidates(1).ranked(collection, ["a"], 99))["a"]) == [f"d{i}" for i in range(10)]


def test_automatic_means_own_lists_if_there_are_some_and_bm25_otherwise(collection, cache):
    assert isinstance(candidate_source(collection, cache_dir=cache), BM25Index)
    with_lists(collection)
    assert isinstance(candidate_source(collection, cache_dir=cache), OwnCandidates)
    assert isinstance(candidate_source(collection, "bm25", cache_dir=cache), BM25Index)
    assert isinstance(candidate_source(collection, "random"), RandomCandidates)
    with pytest.raises(InputError, match="expected auto, own, bm25 or random, got 'dense'"):
        candidate_source(collection, "dense")


def test_any_source_makes_training_lists(collection):
    row = training_lists(with_lists(collection), OwnCandidates(collection), 3, depth=3, negatives="top").rows[0]
    assert row["query_id"] == "b" and row["document_ids"] == ["d0", "d5", "d6"]
    lists = training_lists(collection, RandomCandidates(3), 5, depth=6)
    assert len(lists.rows) == 2 and lists.report["lists"]["candidates"] == "random"
