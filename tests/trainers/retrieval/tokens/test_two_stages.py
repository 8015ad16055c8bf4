import numpy as np
import pytest

from m3se.trainers.data import BM25Index
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.tokens import token_collection
from m3se.trainers.retrieval.tokens.pooling import pool_tokens
from m3se.trainers.retrieval.tokens.token_collection import TokenCollection, encode_tokens
from m3se.trainers.retrieval.tokens.two_stages import (
    bm25_stage,
    retrieve_from_tokens,
    retrieve_in_two_stages,
)


QUERIES = ["vector sum", "read the file", "sort"]


@pytest.fixture(scope="module")
def scorer(colbert):
    return load_scorer(colbert, "float32", device="cpu")


@pytest.mark.parametrize("shard_size", [1, 3, 100])
def test_tokens_come_back_in_any_order_whatever_the_shards(scorer, collection, tmp_path, shard_size):
    encode_tokens(scorer, collection.documents, tmp_path, shard_size=shard_size)
    rows = np.array([6, 0, 3, 3])
    stored, lengths = TokenCollection(tmp_path).tokens(rows)
    expected = scorer.encode(collection.documents.texts_at(rows), "document")
    assert lengths.tolist() == list(map(len, expected))
    np.testing.assert_allclose(stored, np.concatenate(expected), atol=5e-4)


def test_int8_and_pooling_make_the_file_smaller_and_change_it_little(scorer, collection, tmp_path):
    texts = collection.documents.texts(list(collection.documents.ids))
    arrays = scorer.encode(texts, "document")
    encode_tokens(scorer, collection.documents, tmp_path / "int8", "int8")
    tokens, _ = TokenCollection(tmp_path / "int8").tokens(np.arange(7))
    largest = np.abs(np.concatenate(arrays)).max(axis=1, keepdims=True)
    assert (np.abs(tokens - np.concatenate(arrays)) <= largest / 127 * 0.5001).all()
    encode_tokens(scorer, collection.documents, tmp_path / "pooled", pool_factor=2)
    pooled = TokenCollection(tmp_path / "pooled")
    tokens, lengths = pooled.tokens(np.arange(7))
    assert lengths.tolist() == [1 + max((len(array) - 1) // 2, 1) for array in arrays]
    np.testing.assert_allclose(tokens, np.concatenate([pool_tokens(array, 2) for array in arrays]), atol=5e-4)
    assert pooled.count() == lengths.sum()


def test_a_shard_that_was_being_written_is_written_again(scorer, collection, tmp_path, monkeypatch):
    encode = scorer.encode
    calls = []

    def die(texts, side, bar=None):
        calls.append(texts)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(texts, side, bar)

    monkeypatch.setattr(scorer, "encode", die)
    with pytest.raises(KeyboardInterrupt):
        encode_tokens(scorer, collection.documents, tmp_path, shard_size=2)
    with pytest.raises(InputError, match="2 of 4 shards are missing"):
        TokenCollection(tmp_path)
    encode_tokens(scorer, collection.documents, tmp_path, shard_size=2)
    assert sum(map(len, calls[3:])) == 3  # documents of the last two shards
    assert len(TokenCollection(tmp_path)) == 7
    with pytest.raises(InputError, match="pool_factor 1, not 2"):
        encode_tokens(scorer, collection.documents, tmp_path, pool_factor=2, shard_size=2)
    (tmp_path / "shard-00000.npy").write_bytes(b"cut")
    with pytest.raises(InputError, match="its checksum is another; encoding again"):
        TokenCollection(tmp_path)


def test_all_documents_are_ranked_as_the_model_scores_them(scorer, collection, tmp_path):
    encode_tokens(scorer, collection.documents, tmp_path, shard_size=3)
    scores, rows = retrieve_from_tokens(scorer, QUERIES, TokenCollection(tmp_path), 4)
    texts = collection.documents.texts(list(collection.documents.ids))
    expected = scorer.score_matrix(QUERIES, texts)
    np.testing.assert_array_equal(rows, np.argsort(-expected, axis=1, kind="stable")[:, :4])
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :4], rtol=1e-3)


def test_two_stages_rank_what_the_first_one_proposes(scorer, collection, tmp_path):
    encode_tokens(scorer, collection.documents, tmp_path)
    index = BM25Index.build(collection.documents)
    queries = [*QUERIES, "horse"]
    scores, rows = retrieve_in_two_stages(scorer, queries, TokenCollection(tmp_path), bm25_stage(index), 2, 3)
    assert rows[3].tolist() == [-1, -1, -1]  # no document has this word
    expected = scorer.score_matrix(queries, collection.documents.texts(list(collection.documents.ids)))
    for query, (proposed, _) in enumerate(index.positions(QUERIES, 2)):
        best = sorted(proposed, key=lambda row, query=query: -expected[query, row])
        assert rows[query, : len(best)].tolist() == best
        np.testing.assert_allclose(scores[query, : len(best)], expected[query, best], rtol=1e-3)


def test_formats_and_factors_that_are_none_are_refused(scorer, collection, tmp_path):
    with pytest.raises(InputError, match="--token_format: expected float16 or int8, got 'int4'"):
        encode_tokens(scorer, collection.documents, tmp_path, "int4")
    with pytest.raises(InputError, match="--pool_factor: expected 1 or more, got 0"):
        token_collection.check_token_options("int8", 0)
