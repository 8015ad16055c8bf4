"""Losses: `ranking` of score matrices, `matching` of embeddings."""

from m3se.trainers.losses.matching import embedding_matching
from m3se.trainers.losses.ranking import (
    LOSSES,
    NEEDS_TEACHER,
    Loss,
    focal,
    list_variances,
    m3se,
    margin_mse,
    mse,
    rankdistil_b,
    softmax_ce,
    softmax_distillation,
    usable_queries,
)


__all__ = [
    "LOSSES",
    "NEEDS_TEACHER",
    "Loss",
    "embedding_matching",
    "focal",
    "list_variances",
    "m3se",
    "margin_mse",
    "mse",
    "rankdistil_b",
    "softmax_ce",
    "softmax_distillation",
    "usable_queries",
]
