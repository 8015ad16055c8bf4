"""The index on disk beside the one in memory: the same words, and the same scores for the documents it proposes."""

import random

import numpy as np
import pytest

from m3se.trainers.data import bm25, bm25_disk
from m3se.trainers.data.bm25 import BM25Index
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.errors import InputError


TEXT = "running runs ran matrix matrices the of vector's naïve x2 ab b 最高的 ภาษา café"
WORDS = TEXT.split()
QUERIES = ["running matrices", "vector the vector vectors", "最高 café", "absent words", "the of"]


@pytest.fixture(scope="module")
def documents():
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 12))) for _ in range(300)]
    return DocumentTable.from_texts([f"d{number}" for number in range(300)], texts)


@pytest.fixture
def small_memory(monkeypatch):
    """Let an index of three hundred documents be one too many for memory."""
    monkeypatch.setattr(bm25, "MOST_IN_MEMORY", 299)


def build(documents, folder, **options):
    return BM25Index.build(documents, cache_dir=folder, **options)


@pytest.mark.parametrize("tokenizer", ["words", "characters"])
@pytest.mark.parametrize("stemmer", ["english", None])
def test_rows_and_scores_are_those_of_the_index_in_memory(documents, tmp_path, monkeypatch, stemmer, tokenizer):
    options = {"stemmer": stemmer, "tokenizer": tokenizer}
    memory = build(documents, tmp_path, **options)
    monkeypatch.setattr(bm25, "MOST_IN_MEMORY", 299)
    disk = build(documents, tmp_path, **options)
    assert isinstance(disk, bm25_disk.DiskBM25Index) and disk.name == f"{memory.name[:-1]}, on disk)"
    for (rows, scores), (expected_rows, expected) in zip(
        disk.positions(QUERIES, 300), memory.positions(QUERIES, 300), strict=True
    ):
        np.testing.assert_allclose(scores, expected, rtol=1e-5)
        # rounding may swap neighbours of equal scores
        assert sorted(rows.tolist()) == sorted(expected_rows.tolist())
    ids = [["d1", "d250", "d9"]] * len(QUERIES)
    for scores, expected in zip(disk.scores(QUERIES, ids), memory.scores(QUERIES, ids), strict=True):
        assert scores == pytest.approx(expected, rel=1e-5)


def test_what_tantivy_ranks_below_the_proposals_is_not_found(documents, tmp_path, small_memory, monkeypatch):
    monkeypatch.setattr(bm25_disk, "PROPOSED", 3)
    monkeypatch.setattr(bm25_disk, "PER_RESULT", 1)
    ids, scores = build(documents, tmp_path).search(QUERIES[:1], 2)
    assert len(ids[0]) == 2 and scores[0][0] >= scores[0][1]
    assert [len(rows) for rows, _ in build(documents, tmp_path).positions(QUERIES[:1], 10)] == [10]


def test_the_index_is_built_once_and_opened_again(documents, tmp_path, small_memory, monkeypatch):
    first = build(documents, tmp_path).search(QUERIES, 5)
    monkeypatch.setattr(bm25_disk, "write_index", None)
    assert build(documents, tmp_path, k1=0.9).search(QUERIES, 5) == first
    other = build(documents, tmp_path, k1=2.0, b=0.0).search(QUERIES, 5)  # not a part of the index
    assert other != first


def test_a_build_that_was_stopped_leaves_nothing_that_looks_complete(documents, tmp_path, small_memory, monkeypatch):
    write = bm25_disk.write_index

    def die(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(bm25_disk, "write_index", die)
    with pytest.raises(KeyboardInterrupt):
        build(documents, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_tantivy_the_index_is_in_memory_and_a_warning_says_what_helps(
    documents, tmp_path, small_memory, monkeypatch, caplog
):
    monkeypatch.setattr(bm25_disk, "find_spec", lambda name: None)
    assert type(build(documents, tmp_path)) is BM25Index
    assert "the index of 300 documents is built in memory" in caplog.text and "m3se[store]" in caplog.text


def test_texts_without_a_word_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bm25, "MOST_IN_MEMORY", 0)
    with pytest.raises(InputError, match="no document has a word"):
        build(DocumentTable.from_texts(["a"], ["the"]), tmp_path)
