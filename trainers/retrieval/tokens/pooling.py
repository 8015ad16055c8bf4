"""Fewer token embeddings of a document: similar ones are averaged."""

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform


PROTECTED = 1  # first tokens of a document that stay as they are: [CLS]


def pool_tokens(tokens: np.ndarray, factor: int, normalize: bool = True) -> np.ndarray:
    """Average similar tokens [T, H] of a document, so that about T / factor remain.

    Clusters are those of Ward's linkage on cosine distances, as in Clavié, Chaffin & Adams (2024), "Reducing the
    footprint of multi-vector retrieval with minimal performance impact via token pooling"; they come in the order of
    their first tokens. The document's first token, [CLS], stays.

    Args:
        tokens: [T, H] float32.
        factor: 1 keeps all.
        normalize: give the averages the length 1.
    """
    rest = tokens[PROTECTED:]
    clusters = max(len(rest) // factor, 1)
    if factor == 1 or len(rest) <= clusters:
        return tokens
    unit = rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-12)
    distances = np.clip(1 - unit @ unit.T, 0, 2)
    np.fill_diagonal(distances, 0)
    labels = fcluster(linkage(squareform(distances, checks=False), "ward"), clusters, "maxclust")
    _, first, members = np.unique(labels, return_index=True, return_inverse=True)
    places = np.empty(len(first), np.int64)
    places[np.argsort(first)] = np.arange(len(first))
    sums = np.zeros((len(first), tokens.shape[1]), np.float32)
    np.add.at(sums, places[members], rest)
    means = sums / np.bincount(places[members])[:, None]
    if normalize:
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return np.concatenate([tokens[:PROTECTED], means.astype(np.float32)])
