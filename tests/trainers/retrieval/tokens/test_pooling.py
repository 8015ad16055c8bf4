import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder.modules.token_pooling import HierarchicalTokenPooling

from m3se.trainers.retrieval.tokens.pooling import pool_tokens


def unit(array):
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def test_similar_tokens_become_their_average_and_the_first_token_stays():
    # Two pairs of tokens with a cosine of .96 stand behind a first token that is equal to one of them.
    tokens = np.array([[0, 1, 0], [0, 1, 0], [0.6, 0, 0.8], [0, 0.96, 0.28], [0.8, 0, 0.6]], np.float32)
    pooled = pool_tokens(tokens, 2, normalize=False)
    np.testing.assert_allclose(pooled, [[0, 1, 0], [0, 0.98, 0.14], [0.7, 0, 0.7]], atol=1e-6)
    lengths = np.linalg.norm(pool_tokens(tokens, 2), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    np.testing.assert_allclose(pool_tokens(tokens, 4, normalize=False), [[0, 1, 0], [0.35, 0.49, 0.42]], atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 17, 60])
def test_clusters_are_those_of_sentence_transformers(factor, length):
    tokens = unit(np.random.default_rng(length).standard_normal((length, 12)))
    pooling = HierarchicalTokenPooling(factor, num_protected_tokens=1)
    reference = pooling.pool([torch.from_numpy(tokens)])[0].numpy()
    pooled = pool_tokens(tokens, factor)
    # The order of clusters is its own.
    np.testing.assert_allclose(sorted(pooled.tolist()), sorted(reference.tolist()), atol=1e-5)


def test_a_factor_of_one_keeps_every_token():
    tokens = unit(np.random.default_rng(0).standard_normal((5, 4)))
    np.testing.assert_array_equal(pool_tokens(tokens, 1), tokens)
    assert len(pool_tokens(tokens[:0], 2)) == 0
