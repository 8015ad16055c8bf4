"""MaxSim: token embeddings in, one relevance score per (query, document) pair out. Larger is better.

And the scale of scores, of ColBERT and of dual encoders.

Axes: B queries, K documents of a query, Q query tokens, D document tokens, H embedding width.
"""

import math

import torch
from torch import Tensor, nn


COSINE_SCALE = 20.0  # of cosines where nobody chose: 1 / 0.05, the default of the field
STEPS_PER_RATE = 100  # a step of AdamW changes a learned scale by about 100 times the learning rate, as a share of it


class ScoreScale(nn.Module):
    """A factor on all scores: the number `start`, or learned from there on.

    A learned one is start · exp(100 p) with a weight p that begins at 0. AdamW moves any weight by about the learning
    rate in a step: at 2e-5 a factor of 20 that is itself the weight would stand still, this one changes by 0.2%. It
    also stays above 0. The gradient of p is that of the factor's logarithm, not a hundred times as much, so that it
    does not take over where gradients are clipped together. It is a module, and not a bare weight, because adapters
    name the modules that they train whole.
    """

    def __init__(self, start: float, learned: bool):
        super().__init__()
        self.start = start
        self.register_parameter("weight", nn.Parameter(torch.zeros(1)) if learned else None)

    def forward(self, scores: Tensor) -> Tensor:
        """Multiply scores of any shape; -inf, where there is no document, stays and gives the scale no gradient."""
        if self.weight is None and self.start == 1:
            return scores
        factor = self.start if self.weight is None else self.start * self.logarithm().exp()
        absent = scores == -torch.inf
        return (scores.masked_fill(absent, 0.0) * factor).masked_fill(absent, -torch.inf)

    def logarithm(self) -> Tensor:
        """Return the logarithm of what the start is multiplied by, [1], with the gradient 1 for the weight."""
        return self.weight + (STEPS_PER_RATE - 1) * self.weight.detach()

    @torch.no_grad()
    def multiply(self, ratio: float) -> None:
        """Make a learned scale `ratio` times as large."""
        self.weight += math.log(ratio) / STEPS_PER_RATE


def maxsim_scores(
    queries: Tensor, query_mask: Tensor, documents: Tensor, document_mask: Tensor, reduction: str = "mean"
) -> Tensor:
    """Take the best document token for each query token, averaged over query tokens (Khattab & Zaharia, 2020).

    Padding, of any numbers but NaN, is -inf inside the maximum, so that it cannot win over negative similarities. A
    document without a token scores -inf, with zero gradient; a query without a token scores 0.

    Args:
        queries, query_mask: [B, Q, H] and [B, Q].
        documents, document_mask: [B, K, D, H] and [B, K, D].
        reduction: "mean" over the query tokens as in the paper, or "sum" as in ColBERT itself.

    Returns:
        Scores [B, K].

    Raises:
        ValueError: another reduction.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    query_mask, document_mask = query_mask.bool(), document_mask.bool()
    similarities = torch.bmm(documents.flatten(1, 2), queries.transpose(1, 2))  # [B, K · D, Q]
    highest = torch.where(document_mask, torch.inf, -torch.inf).flatten(1)[..., None]
    similarities.clamp_(max=highest)  # on a CPU faster than masked_fill_
    best = similarities.unflatten(1, document_mask.shape[1:]).amax(dim=2)  # [B, K, Q]
    empty = ~document_mask.any(dim=-1)  # [B, K]
    counted = query_mask[:, None] & ~empty[..., None]
    scores = torch.where(counted, best, 0.0).sum(dim=-1)
    if reduction == "mean":
        scores = scores / query_mask.sum(dim=-1, keepdim=True).clamp(min=1)
    return scores.masked_fill(empty, -torch.inf)


def select_rows(rows: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Select the rows [n] of each tensor, as a view where each row follows the one before or all are the same.

    Copying token embeddings would take half as long as comparing them.
    """
    steps = rows.diff()
    selection: Tensor | slice = rows
    if len(rows) and bool((steps == 1).all()):
        selection = slice(int(rows[0]), int(rows[-1]) + 1)
    elif len(rows) and bool((steps == 0).all()):
        return [tensor[int(rows[0])].expand(len(rows), *tensor.shape[1:]) for tensor in tensors]
    return [tensor[selection] for tensor in tensors]


def chunk_numbers(device: torch.device) -> int:
    """Return how many numbers to hold at a time: similarities [P, Q, D] and documents' embeddings [P, D, H]."""
    return 2**23 if device.type == "cpu" else 2**27
