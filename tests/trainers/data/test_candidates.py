from collections import Counter

import pytest

from m3se.trainers.data.bm25 import BM25Index
from m3se.trainers.data.candidates import (
    OwnCandidates,
    RandomCandidates,
    RunFile,
    candidate_source,
    identical_ids,
    ranked_candidates,
)
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.lists import candidate_lists, teacher_lists, training_lists
from m3se.trainers.data.schema import CANDIDATE_FEATURES, SCORED_CANDIDATE_FEATURES, Collection
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
    assert list(source.ranked(collection, ["a", "b"], 2)) == [("a", [], None), ("b", ["d5", "d0"], None)]


def test_a_collection_without_lists_says_so(collection):
    with pytest.raises(InputError, match="ten: brings no lists of its own"):
        OwnCandidates(collection)


def test_random_candidates_depend_on_seed_and_query_only(collection):
    ranked = {ranking.query: ranking for ranking in RandomCandidates(1).ranked(collection, ["a", "b"], 4)}
    assert len(set(ranked["a"].document_ids)) == 4 and ranked["a"].document_ids != ranked["b"].document_ids
    assert list(RandomCandidates(1).ranked(collection, ["b"], 4)) == [ranked["b"]]
    assert list(RandomCandidates(2).ranked(collection, ["b"], 4)) != [ranked["b"]]
    everything = next(RandomCandidates(1).ranked(collection, ["a"], 99)).document_ids
    assert sorted(everything) == [f"d{i}" for i in range(10)]


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


def test_lists_in_no_order_are_never_cut(collection):
    collection = with_lists(collection)
    collection.candidates_ranked = False  # as of triples and of top1000
    source = OwnCandidates(collection)
    assert next(source.ranked(collection, ["b"], 1)).document_ids == ["d5", "d0", "d6"]
    assert candidate_lists(collection, source, 1).report["lists"]["recall"] == 0.5
    drawn = {training_lists(collection, source, 2, depth=1, seed=seed).rows[0]["document_ids"][1] for seed in range(9)}
    assert drawn == {"d5", "d6"}
    with pytest.raises(InputError, match="negatives: top needs candidates that are ranked; the own lists of ten are"):
        training_lists(collection, source, 2, depth=1, negatives="top")


def test_a_run_file_gives_documents_and_scores_by_score(collection, tmp_path):
    (tmp_path / "first.trec").write_text("b Q0 d7 1 1.5 x\nb Q0 d0 2 4.5 x\nb Q0 d1 3 3.5 x\nz Q0 d1 1 1 x\n")
    source = RunFile(tmp_path / "first.trec", collection)
    assert source.name == source.ranker == "first"
    assert list(source.ranked(collection, ["a", "b"], 2)) == [("a", [], []), ("b", ["d0", "d1"], [4.5, 3.5])]


def test_a_run_file_of_other_queries_or_documents_is_refused(collection, tmp_path):
    (tmp_path / "run.trec").write_text("z Q0 d1 1 1 x\n")
    with pytest.raises(InputError, match="run.trec: none of its queries is among those of ten .a, b."):
        RunFile(tmp_path / "run.trec", collection)
    (tmp_path / "run.trec").write_text("a Q0 d1 1 2 x\na Q0 new 2 1 x\n")
    with pytest.raises(InputError, match="run.trec: 1 documents are not in ten .new.; --allow_missing true leaves"):
        list(RunFile(tmp_path / "run.trec", collection).ranked(collection, ["a"], 2))
    allowing = RunFile(tmp_path / "run.trec", collection, allow_missing=True)
    assert list(allowing.ranked(collection, ["a"], 2)) == [("a", ["d1"], [2.0])]


@pytest.fixture
def arguments():
    """Queries that are documents themselves, as in ArguAna; that of d2 is judged relevant."""
    texts = ["tree leaf", "tree leaf root", "tree", "root"]
    documents = DocumentTable.from_texts([f"d{i}" for i in range(4)], texts)
    queries = {"d0": "tree leaf", "d2": "tree", "q": "root"}
    rows = [{"query_id": "d0", "document_ids": ["d0", "d1", "d2"], "teacher_scores": [9.0, 2.0, 1.0]}]
    candidates = write_rows(rows, SCORED_CANDIDATE_FEATURES)
    return Collection("args", documents, queries, {"d0": {"d1": 1}, "d2": {"d2": 1}, "q": {"d3": 1}}, {}, candidates)


def test_a_query_that_is_a_document_is_not_its_own_candidate(arguments):
    assert identical_ids(arguments) == {"d0"}
    index, counts = BM25Index.build(arguments.documents), Counter()
    ranked = list(ranked_candidates(index, arguments, ["d0", "d2", "q"], 2, counts=counts))
    assert [ranking.document_ids for ranking in ranked] == [["d1", "d2"], ["d2", "d0"], ["d3", "d1"]]
    assert counts["identical_ids_left_out"] == 1 and [len(ranking.scores) for ranking in ranked] == [2, 2, 2]
    kept = next(ranked_candidates(index, arguments, ["d0"], 2, keep_identical_ids=True))
    assert kept.document_ids == ["d0", "d1"]


def test_no_list_holds_the_query_itself_and_the_report_counts_them(arguments):
    lists = candidate_lists(arguments, OwnCandidates(arguments), 3)
    assert lists.rows["document_ids"][:] == [["d1", "d2"]] and lists.report["lists"]["identical_ids_left_out"] == 1
    for make in (
        lambda **options: training_lists(arguments, BM25Index.build(arguments.documents), 2, depth=3, **options),
        lambda **options: teacher_lists(arguments, **options),
    ):
        lists = make()
        row = next(row for row in lists.rows if row["query_id"] == "d0")
        assert row["document_ids"][0] == "d1" and "d0" not in row["document_ids"]
        assert lists.report["lists"]["identical_ids_left_out"] == 1
        assert "identical_ids_left_out" not in make(keep_identical_ids=True).report["lists"]
    assert "d0" in teacher_lists(arguments, keep_identical_ids=True).rows[0]["document_ids"]


def test_equal_numbers_are_the_same_thing_only_if_their_texts_are():
    documents = DocumentTable.from_texts(["7", "8", "9"], ["Why is the sky blue?", "A passage", "Sky: why blue"])
    queries = {"7": "why is the  sky BLUE", "8": "something else", "9": "why blue"}
    assert identical_ids(Collection("quora", documents, queries, {})) == {"7", "9"}
