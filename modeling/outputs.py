"""The output of every model."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class RankingOutput(ModelOutput):
    """Output of every model.

    `scores` [B, K], float32, larger is better, on the model's own scale; -inf where there is no document to score.
    """

    scores: Tensor | None = None
