"""What the losses are: values by hand, loops in plain Python, and sentence-transformers' where they coincide."""

from math import exp, log

import pytest
import torch
from hypothesis import given, settings

from m3se.trainers.losses import LOSSES
from tests.trainers.loss_cases import VARIANTS, cases
from tests.trainers.reference_losses import REFERENCES


def value(name, scores, teacher_scores, labels, **hyperparameters):
    """The loss of one query whose documents are all real."""
    rows = [torch.tensor([row], dtype=torch.float64) for row in (scores, teacher_scores, labels)]
    return LOSSES[name](*rows, torch.ones_like(rows[0], dtype=torch.bool), **hyperparameters).item()


NAN = float("nan")
# Scores ln 1, ln 3, ln 4 have probabilities 1/8, 3/8, 4/8.
LOGS = [0.0, log(3), log(4)]


@pytest.mark.parametrize(
    ("name", "hyperparameters", "scores", "teacher_scores", "labels", "expected"),
    [
        ("softmax_ce", {}, LOGS, [NAN] * 3, [0, 1, 0], log(8 / 3)),
        ("softmax_ce", {}, LOGS, [NAN] * 3, [1, 1, 0], (log(8) + log(8 / 3)) / 2),
        ("softmax_ce", {}, LOGS, [NAN] * 3, [1, 3, 0], (log(8) + 3 * log(8 / 3)) / 4),  # graded
        ("softmax_ce", {}, LOGS, [NAN] * 3, [1, -1, 0], log(8)),  # a label below 0 is no positive
        ("softmax_ce", {"temperature": 2.0}, [2 * s for s in LOGS], [NAN] * 3, [0, 0, 1], log(2)),
        # (1 - a) on the positive and a / 3 on each
        ("softmax_ce", {"label_smoothing": 0.3}, LOGS, [NAN] * 3, [0, 0, 1], 0.8 * log(2) + 0.1 * log(8 * 8 / 3)),
        ("softmax_ce", {"label_smoothing": 0.3}, LOGS, [NAN] * 3, [0, 0, 0], 0.0),
        ("mse", {}, [1, 2, 3], [3, 2, 0], [1, 0, 0], 4 + 0 + 9),
        ("mse", {}, [1, 2, 3], [3, NAN, 0], [1, 0, 0], 4 + 9),
        ("margin_mse", {}, [2, 1], [5, 1], [1, 0], (4 - 1) ** 2),
        # P = {0, 1}, N = {2, 3}; teacher margins 3, 5, 1, 3; student margins 1, -1, 0, -2
        ("margin_mse", {}, [2, 1, 1, 3], [4, 2, 1, -1], [1, 1, 0, 0], 2**2 + 6**2 + 1**2 + 5**2),
        ("margin_mse", {}, [2, 1, 1, 3], [4, NAN, 1, NAN], [1, 1, 0, 0], 2**2),
        ("margin_mse", {}, [2, 1], [5, 1], [0, 0], 0.0),
        # j* = 2 (teacher 1); margins: teacher 3, 1, student 1, 0; document 3 is 2 above j*, document 4 below
        ("m3se", {}, [2, 1, 1, 3, 0], [4, 2, 1, -1, 0], [1, 1, 0, 0, 0], 2**2 + 1**2 + 2),
        ("m3se", {"hinge_power": 2}, [2, 1, 1, 3, 0], [4, 2, 1, -1, 0], [1, 1, 0, 0, 0], 2**2 + 1**2 + 2**2),
        ("m3se", {}, [5, 1, 3], [4, 0, 0], [1, 0, 0], (4 - 4) ** 2 + 2),  # equals: the first is j*
        ("m3se", {}, [5, 3, 1], [4, 0, 0], [1, 0, 0], (4 - 2) ** 2 + 0),
        ("m3se", {}, [2, 1, 3], [4, 1, NAN], [1, 0, 0], 2**2 + 2),  # unknown: no j*, but it counts in the hinge
        ("m3se", {}, [2, 1, 3], [NAN, 1, 0], [1, 0, 0], 2),  # a positive without a teacher score has no margin
        ("m3se", {}, [2, 1, 3], [4, NAN, NAN], [1, 0, 0], 0.0),  # no j*
        ("softmax_distillation", {}, LOGS, [0, 0, log(2)], [1, 0, 0], (log(8) + log(8 / 3)) / 4 + log(2) / 2),
        ("softmax_distillation", {}, LOGS, [0, 0, NAN], [0, 0, 1], (log(8) + log(8 / 3)) / 2),
        (
            "softmax_distillation",
            {"temperature": 2.0, "teacher_temperature": 0.5},
            [2 * s for s in LOGS],
            [0, 0, log(2) / 2],
            [1, 0, 0],
            (log(8) + log(8 / 3)) / 4 + log(2) / 2,
        ),
        ("rankdistil_b", {}, [1, -2, 3], [4, 9, 9], [1, 0, 0], 3**2 + 0 + 3**2),
        ("rankdistil_b", {"gamma0": 2.0}, [1, -2, 3], [4, 9, NAN], [1, 0, 0], 3**2 + 0 + 1**2),
        ("rankdistil_b", {"gamma0": 2.0}, [1, -2, 3], [NAN, 9, 9], [1, 0, 0], 1**2),
        # the threshold is the lowest positive teacher score less the margin: 4 - 3 = 1
        ("rankdistil_b", {"margin": 3.0}, [5, 4, 0, 3], [5, 4, 9, 9], [2, 1, 0, 0], 0 + 0 + 0 + 2**2),
        ("rankdistil_b", {"margin": 3.0, "gamma0": 2.0}, [5, 3], [NAN, 9], [1, 0], 1**2),
        ("focal", {}, LOGS, [NAN] * 3, [0, 0, 1], 0.5**2 * log(2)),
        ("focal", {"gamma": 1.0}, LOGS, [NAN] * 3, [0, 1, 0], 5 / 8 * log(8 / 3)),
        ("focal", {"temperature": 2.0}, [2 * s for s in LOGS], [NAN] * 3, [0, 0, 1], 0.5**2 * log(2)),
    ],
)
def test_value_by_hand(name, hyperparameters, scores, teacher_scores, labels, expected):
    assert value(name, scores, teacher_scores, labels, **hyperparameters) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "hyperparameters"), VARIANTS, ids=str)
@given(case=cases())
@settings(deadline=None, max_examples=30)
def test_value_is_the_mean_over_queries_of_the_formula(name, hyperparameters, case):
    expected = []
    for scores, teacher_scores, labels, mask in zip(*(part.tolist() for part in case), strict=True):
        documents = [entry[:3] for entry in zip(scores, teacher_scores, labels, mask, strict=True) if entry[3]]
        expected.append(REFERENCES[name](documents, **hyperparameters) if documents else 0.0)
    found = LOSSES[name](*case, **hyperparameters)
    assert found.shape == ()
    assert found.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9, abs=1e-12)


def test_focal_without_focus_is_cross_entropy():
    args = ([0.3, -1.0, 2.0], [NAN] * 3, [1, 0, 2])
    assert value("focal", *args, gamma=0.0) == pytest.approx(value("softmax_ce", *args))


def test_softmax_distillation_is_kl_plus_the_teachers_entropy():
    scores, teacher_scores = [0.3, -1.0, 2.0], [1.0, 0.5, -2.0]
    total = sum(exp(t) for t in teacher_scores)
    teacher = [exp(t) / total for t in teacher_scores]
    student = [exp(s) / sum(exp(x) for x in scores) for s in scores]
    divergence = sum(t * log(t / s) for t, s in zip(teacher, student, strict=True))
    entropy = -sum(t * log(t) for t in teacher)
    assert value("softmax_distillation", scores, teacher_scores, [1, 0, 0]) == pytest.approx(divergence + entropy)


def as_embeddings(scores):
    """One-dimensional embeddings whose inner products are `scores` [B, K]: a query of 1, documents of s."""
    return [torch.ones_like(scores[:, :1]), *(column[:, None] for column in scores.T)]


def gradient(loss, scores):
    leaf = scores.clone().requires_grad_()
    loss(leaf).backward()
    return leaf.grad


@pytest.mark.parametrize("negatives", [1, 4])
def test_margin_mse_agrees_with_sentence_transformers(negatives):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    scores, teacher_scores = torch.randn(2, 3, 1 + negatives, dtype=torch.float64)
    theirs = losses.MarginMSELoss(model=None).compute_loss_from_embeddings(as_embeddings(scores), teacher_scores)
    labels = torch.zeros_like(scores).index_fill(1, torch.tensor([0]), 1.0)
    ours = LOSSES["margin_mse"](scores, teacher_scores, labels, torch.ones_like(scores, dtype=torch.bool))
    torch.testing.assert_close(ours, theirs * negatives)  # theirs is the mean over negatives, the paper's a sum


@pytest.mark.parametrize("temperatures", [(1.0, None), (2.0, None), (0.7, 3.0)])
def test_softmax_distillation_has_the_gradient_of_sentence_transformers_kl(temperatures):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    temperature, teacher_temperature = temperatures
    scores, teacher_scores = torch.randn(2, 3, 4, dtype=torch.float64)
    their_loss = losses.DistillKLDivLoss(model=None, temperature=temperature, teacher_temperature=teacher_temperature)
    theirs = gradient(lambda s: their_loss.compute_loss_from_embeddings(as_embeddings(s), teacher_scores), scores)
    mask = torch.ones_like(scores, dtype=torch.bool)
    ours = gradient(
        lambda s: LOSSES["softmax_distillation"](
            s, teacher_scores, mask.double(), mask, temperature=temperature, teacher_temperature=teacher_temperature
        ),
        scores,
    )
    torch.testing.assert_close(theirs, ours * temperature**2)  # theirs is scaled by the student's temperature squared
