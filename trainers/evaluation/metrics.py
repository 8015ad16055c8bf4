"""Ranking metrics on score matrices, for use while training.

Every metric takes `scores` [B, K], `labels` [B, K] (0, or a grade above 0 for a relevant document), `mask` [B, K]
(True at real documents; None: all) and a cut-off `k`, and returns one value per query, [B] float32. A query without a
relevant document gets 0.

Ties are broken against the model: of documents with equal scores the least relevant ranks first, so that a model
without an opinion earns the worst value its lists allow. Masked entries are never ranked, whatever they hold. A score
of -inf ranks last among the real documents; NaN is no score at all and raises ValueError, since a diverged model must
not be given a rank.
"""

import torch
from torch import Tensor


def reciprocal_rank(scores: Tensor, labels: Tensor, mask: Tensor | None = None, k: int = 10) -> Tensor:
    """Return 1 / rank of the first relevant document, 0 when it is not among the first `k`; its mean is MRR@k."""
    hits = ranked_labels(scores, labels, mask)[:, :k] > 0
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return (hits / ranks).amax(dim=1)


def ndcg(
    scores: Tensor, labels: Tensor, mask: Tensor | None = None, k: int = 10, ideal: Tensor | None = None
) -> Tensor:
    """Return discounted cumulative gain over the best one possible, nDCG@k (Järvelin & Kekäläinen, 2002).

    The gain is the label itself, as in trec_eval (not 2^label − 1), discounted by log2(1 + rank).

    Args:
        scores, labels, mask, k: as above.
        ideal: labels [B, J] of all documents judged for the query, padded with 0. A relevant document outside the list
            then costs what it costs in trec_eval. None: the ideal ranking is that of the list.
    """
    ranked = ranked_labels(scores, labels, mask)
    best = ranked if ideal is None else ideal.to(ranked)
    best = best.sort(dim=1, descending=True).values
    ideal_gain = discounted_gain(best[:, :k])
    return torch.where(ideal_gain > 0, discounted_gain(ranked[:, :k]) / ideal_gain.clamp(min=1e-30), 0.0)


def recall(scores: Tensor, labels: Tensor, mask: Tensor | None = None, k: int = 100) -> Tensor:
    """Return the share of the list's relevant documents that are among its first `k`."""
    hits = ranked_labels(scores, labels, mask) > 0
    return hits[:, :k].sum(dim=1) / hits.sum(dim=1).clamp(min=1)


def ranked_labels(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return labels [B, K] float32 in the order of the ranking; masked entries come last, with label 0.

    Raises:
        ValueError: shapes differ, K is 0, or a real document's score is NaN.
    """
    real = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask.bool()
    if scores.shape != labels.shape or real.shape != labels.shape or scores.dim() != 2 or scores.shape[1] == 0:
        shapes = f"{list(scores.shape)}, {list(labels.shape)} and {list(real.shape)}"
        raise ValueError(f"scores, labels and mask must be [B, K] with K > 0, got {shapes}")
    if (scores.isnan() & real).any():
        raise ValueError("a score is NaN: the model has diverged, or a document was not scored")
    labels = torch.where(real, labels.float(), 0.0).clamp(min=0)
    order = torch.argsort(labels, dim=1, stable=True)
    for key in (scores.float(), real.to(torch.uint8)):  # the last key weighs most: stable sorts, least relevant first
        order = order.gather(1, key.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return labels.gather(1, order)


def discounted_gain(labels: Tensor) -> Tensor:
    """Compute discounted cumulative gain: ranked labels [B, k] -> [B]."""
    ranks = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    return (labels / torch.log2(1.0 + ranks)).sum(dim=1)
