"""The output of every model."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class RankingOutput(ModelOutput):
    """Output of every model.

    `scores` [B, K], float32, larger is better, on the model's own scale; -inf where there is no document to score.
    A dual encoder also has `query_embeddings` [B, H] and, of this process's documents, `document_embeddings` [N, H].
    """

    scores: Tensor | None = None
    query_embeddings: Tensor | None = None
    document_embeddings: Tensor | None = None
