import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.data import ROW_FEATURES, DocumentTable, RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.reranking import run_from_scores
from m3se.trainers.retrieval import exact_search as retrieval
from m3se.trainers.retrieval.best_scores import BestScores
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import encode_collection
from m3se.trainers.retrieval.exact_search import search
from m3se.trainers.retrieval.loading import load_embedder, load_scorer
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.retrieval.search import retrieve, retrieve_by_scoring
from m3se.trainers.storage.arrow import write_rows


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_blocks_give_the_first_k_of_a_full_sort_also_with_ties(data):
    documents, queries = data.draw(st.integers(1, 40)), 3
    values = data.draw(st.lists(st.integers(0, 4), min_size=documents * queries, max_size=documents * queries))
    scores = torch.tensor(values, dtype=torch.float32).view(queries, documents)
    k = data.draw(st.integers(1, documents))
    best, start = BestScores(queries, k), 0
    while start < documents:
        size = data.draw(st.integers(1, documents - start))
        best.update(scores[:, start : start + size], start)
        start += size
    found, rows = best.result()
    for query in range(queries):
        expected = sorted(range(documents), key=lambda row: (-scores[query, row], row))[:k]
        assert rows[query].tolist() == expected
        assert found[query].tolist() == scores[query, expected].tolist()


def test_documents_that_score_minus_infinity_are_found_when_there_are_no_better_ones():
    best = BestScores(1, 3)
    best.update(torch.tensor([[-torch.inf, 1.0]]), 0)
    best.update(torch.tensor([[-torch.inf, -torch.inf]]), 2)
    scores, rows = best.result()
    assert (rows.tolist(), scores.tolist()) == ([[1, 0, 2]], [[1.0, -np.inf, -np.inf]])


def test_no_more_is_held_than_twice_what_is_kept_even_if_every_document_is_the_best_yet():
    best = BestScores(2, 5)
    for block in range(100):
        best.update(torch.arange(8.0).add(8 * block).expand(2, 8), 8 * block)
        assert best.scores.shape[1] + sum(values.shape[1] for values, _ in best.waiting) < 2 * 5
    assert best.result()[1].tolist() == [[799, 798, 797, 796, 795]] * 2


@pytest.fixture(params=["faiss", "torch"])
def library(request, monkeypatch):
    """FAISS scores the blocks whatever the number of queries; or it is not installed."""
    if request.param == "faiss":
        pytest.importorskip("faiss")
        monkeypatch.setattr(retrieval, "FAISS_QUERIES", 1)
    else:
        monkeypatch.setitem(sys.modules, "faiss", None)


class VectorTable:
    """Documents whose text is their embedding."""

    def __init__(self, vectors):
        self.vectors = vectors
        self.table = DocumentTable.from_texts(
            [f"d{i}" for i in range(len(vectors))], [str(i) for i in range(len(vectors))]
        )

    def scorer(self):
        return DenseScorer(lambda texts, side, bar: self.vectors[[int(text) for text in texts]], "vectors", "cpu")


@pytest.mark.parametrize(("shard_size", "per_block"), [(1000, 2**25), (7, 64), (13, 1)])
def test_search_equals_brute_force_whatever_shards_and_blocks(tmp_path, monkeypatch, library, shard_size, per_block):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(60, 8)).astype(np.float32)
    vectors[30] = vectors[12]  # a tie: the lower row comes first
    queries = np.concatenate([generator.normal(size=(4, 8)), vectors[12:13]]).astype(np.float32)
    table = VectorTable(vectors)
    encode_collection(table.scorer(), table.table, tmp_path, shard_size=shard_size)
    for name in ("SCORES_PER_BLOCK", "FAISS_BLOCK"):
        monkeypatch.setattr(retrieval, name, per_block)
    monkeypatch.setattr(retrieval, "ROWS_PER_READ", 12)
    scores, rows = search(queries, EmbeddedCollection(tmp_path), 10, progress=False)
    exact = queries.astype(np.float64) @ vectors.astype(np.float64).T
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, expected, axis=1), rtol=1e-6)
    assert rows[4, :2].tolist() == [12, 30]


def test_results_are_the_same_bytes_with_faiss_and_without_however_many_documents_tie(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    generator = np.random.default_rng(0)
    distinct = generator.standard_normal((60, 64), dtype=np.float32)
    vectors = distinct[generator.integers(0, 60, 3_000)]  # fifty of each, in no order
    queries = generator.standard_normal((25, 64), dtype=np.float32)
    table = VectorTable(vectors)
    encode_collection(table.scorer(), table.table, tmp_path, shard_size=700)
    first = search(queries, EmbeddedCollection(tmp_path), 20, progress=False)
    monkeypatch.setitem(sys.modules, "faiss", None)
    again = search(queries, EmbeddedCollection(tmp_path), 20, progress=False)
    scores = np.stack([(vectors.astype(np.float64) @ query).astype(np.float32) for query in queries])
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    for found in (first, again):
        np.testing.assert_array_equal(found[1], expected)
        np.testing.assert_array_equal(found[0], np.take_along_axis(scores, expected, axis=1))


def test_a_search_leaves_faiss_as_it_was(tmp_path, monkeypatch):
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 17)
    state = faiss.omp_get_max_threads(), 17
    table = VectorTable(np.eye(30, dtype=np.float32))
    encode_collection(table.scorer(), table.table, tmp_path)
    assert search(table.vectors, EmbeddedCollection(tmp_path), 1, progress=False)[1][:, 0].tolist() == list(range(30))
    assert (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold) == state


def test_of_equal_documents_the_first_is_found_wherever_they_are_in_a_block(tmp_path, library):
    generator = np.random.default_rng(0)
    for trial in range(12):  # the last rows of a product may be rounded otherwise than the first
        vectors, query = (generator.standard_normal((count, 768), dtype=np.float32) for count in (1001, 1))
        vectors[[0, 1000]] = vectors[0] + query
        table = VectorTable(vectors)
        encode_collection(table.scorer(), table.table, tmp_path / str(trial))
        assert search(query, EmbeddedCollection(tmp_path / str(trial)), 1, progress=False)[1].tolist() == [[0]]


def test_a_search_for_no_queries_finds_nothing(tmp_path):
    table = VectorTable(np.eye(30, dtype=np.float32))
    encode_collection(table.scorer(), table.table, tmp_path, shard_size=10)
    scores, rows = search(np.empty((0, 30), dtype=np.float32), EmbeddedCollection(tmp_path), 3, progress=False)
    assert scores.shape == rows.shape == (0, 3)


def test_a_search_holds_blocks_of_the_collection_never_all_of_it(tmp_path, monkeypatch, library):
    vectors = np.random.default_rng(0).normal(size=(20_000, 32)).astype(np.float32)
    table = VectorTable(vectors)
    # float16, since blocks of float32 are the file's own memory, which is not traced
    encode_collection(table.scorer(), table.table, tmp_path, "float16", shard_size=8_000)
    monkeypatch.setattr(retrieval, "SCORES_PER_BLOCK", 2_000)
    monkeypatch.setattr(retrieval, "FAISS_BLOCK", 16_000)
    encoded = EmbeddedCollection(tmp_path)
    tracemalloc.start()
    search(vectors[:4], encoded, 10, progress=False)
    _, peak = tracemalloc.get_traced_memory()  # of numpy: blocks of 500 documents come to 64 kB
    tracemalloc.stop()
    assert peak < vectors.nbytes / 5


def test_more_results_than_documents_give_all(tmp_path):
    table = VectorTable(np.eye(3, dtype=np.float32))
    encode_collection(table.scorer(), table.table, tmp_path)
    scores, rows = search(np.array([[1.0, 2.0, 3.0]], dtype=np.float32), EmbeddedCollection(tmp_path), 10)
    assert (rows.tolist(), scores.tolist()) == ([[2, 1, 0]], [[3.0, 2.0, 1.0]])


def test_queries_of_another_width_are_refused(tmp_path):
    table = VectorTable(np.eye(3, dtype=np.float32))
    encode_collection(table.scorer(), table.table, tmp_path)
    with pytest.raises(InputError, match="embeddings have 3 numbers, the queries' 4"):
        search(np.zeros((1, 4), np.float32), EmbeddedCollection(tmp_path), 2)


def all_candidates(collection):
    ids = list(collection.documents.ids)
    rows = [
        {"query_id": query, "query": text, "document_ids": ids, "labels": [0.0] * len(ids)}
        for query, text in collection.queries.items()
    ]
    return RankingLists(write_rows(rows, ROW_FEATURES), collection.documents)


def test_reranking_everything_and_retrieving_give_the_same_run(dual_encoder, collection, tmp_path):
    scorer = load_embedder(dual_encoder, "float32", device="cpu")
    encode_collection(scorer, collection.documents, tmp_path)
    retrieved = retrieve(scorer, collection.queries, EmbeddedCollection(tmp_path), 100, progress=False)
    lists = all_candidates(collection)
    reranked = run_from_scores(lists, scorer.score_lists(lists, progress=False))
    assert retrieved == reranked  # to the last bit


@pytest.mark.parametrize("block_size", [2, 100])
def test_retrieving_with_a_cross_encoder_scores_every_pair(cross_encoder, collection, block_size):
    scorer = load_scorer(cross_encoder, "float32")
    lists = all_candidates(collection)
    reranked = run_from_scores(lists, scorer.score_lists(lists, progress=False))
    retrieved = retrieve_by_scoring(scorer, collection.queries, collection.documents, 4, block_size)
    for query, scores in retrieved.items():
        assert list(scores) == sorted(reranked[query], key=reranked[query].get, reverse=True)[:4]
        assert scores == pytest.approx({name: reranked[query][name] for name in scores})
