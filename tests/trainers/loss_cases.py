"""Score matrices to try losses on, by hypothesis: any shape, masks, several and graded positives, unknown scores."""

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor


# Every loss, and every hyperparameter that changes its formula.
VARIANTS = [
    ("softmax_ce", {}),
    ("softmax_ce", {"temperature": 2.5, "label_smoothing": 0.3}),
    ("mse", {}),
    ("margin_mse", {}),
    ("m3se", {}),
    ("m3se", {"hinge_power": 2}),
    ("softmax_distillation", {}),
    ("softmax_distillation", {"temperature": 0.5, "teacher_temperature": 3.0}),
    ("rankdistil_b", {}),
    ("rankdistil_b", {"gamma0": -1.5}),
    ("rankdistil_b", {"gamma0": 0.5, "margin": 1.0}),
    ("focal", {}),
    ("focal", {"gamma": 0.5, "temperature": 2.0}),
]
LABELS = st.sampled_from([0.0, 0.0, 1.0, 2.0])


class Case(NamedTuple):
    """All [B, K], float64 (mask bool)."""

    scores: Tensor
    teacher_scores: Tensor
    labels: Tensor
    mask: Tensor


@st.composite
def cases(draw, unknown: bool = True, masked: bool = True, labels=LABELS) -> Case:
    """Distinct scores in general position (a kink would have no gradient to compare with)."""
    queries, documents = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    shape = (queries, documents)
    scores, teacher_scores = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    chosen = draw(st.lists(labels, min_size=queries * documents, max_size=queries * documents))
    hidden, dropped = (torch.rand(shape, generator=generator) < 0.3 for _ in range(2))
    if unknown and draw(st.booleans()):
        teacher_scores = teacher_scores.masked_fill(hidden, torch.nan)
    mask = ~dropped if masked and draw(st.booleans()) else torch.ones(shape, dtype=torch.bool)
    return Case(scores, teacher_scores, torch.tensor(chosen, dtype=torch.float64).reshape(shape), mask)
