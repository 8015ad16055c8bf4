"""The quantities behind the paper's figures, which show where a dual encoder lags behind its teacher.

Scores of one model are flat: `scores` [n], with the `labels` [n] and the list (`rows` [n], one number per query) of
each document. A document is positive when its label is above 0.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import torch

from m3se.trainers.errors import InputError
from m3se.trainers.losses import LOSSES


RANKS = (2, 4, 8, 16, 32, 64, 128, 256, 384, 512, 768)


@dataclass
class Separation:
    """The distance between a model's scores of positives and of negatives.

    `overlap` is the common area of the two score densities (1: the same). `auc` is the chance that a positive scores
    above a negative of any query, `auc_within` of its own query (the mean over queries that have both). `range` is ρ,
    the distance from the lowest to the highest score.
    """

    overlap: float
    auc: float
    auc_within: float
    range: float
    mean_margin: float


@dataclass
class Agreement:
    """A student beside its teacher.

    `baseline_shift` is the difference of their mean scores, `spread_ratio` the ratio of their mean standard deviations
    within a list (student over teacher). `taus` are Kendall's τ of each query where it is defined, `mean_tau` is their
    mean (None: it is nowhere). `top_1` is the share of queries with the same best document.
    """

    baseline_shift: float
    spread_ratio: float
    taus: np.ndarray
    mean_tau: float | None
    top_1: float


@dataclass
class Capacity:
    """A score matrix [B, N] against its best approximations by dot products of size r (Proposition 1, finite case).

    `errors` are relative Frobenius errors per size of `ranks`, `centred_errors` the same after each query's mean is
    taken off (which changes no ranking), `top_1` the share of queries whose best document survives. `rank` is
    numerical.
    """

    ranks: list[int]
    errors: list[float]
    centred_errors: list[float]
    top_1: list[float]
    singular_values: np.ndarray
    rank: int

    def sufficient(self, error: float) -> int | None:
        """Return the smallest of `ranks` with at most this relative error after centring; None if there is none."""
        for rank, centred_error in zip(self.ranks, self.centred_errors, strict=True):
            if centred_error <= error:
                return rank
        return None


def split_scores(scores: np.ndarray, labels: np.ndarray, centred: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of positives and of negatives; centred: less the model's mean score (Figure 2)."""
    scores = scores - scores.mean() if centred else scores
    return scores[labels > 0], scores[labels <= 0]


def normalised_margins(scores: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return `pair_margins` over ρ, the model's whole score range; 0 when all scores are the same."""
    span = scores.max() - scores.min()
    return pair_margins(scores, labels, rows) / (span if span > 0 else 1.0)


def pair_margins(scores: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return s⁺ − s⁻ of every pair of a positive and a negative of the same query; empty when no query has both."""
    margins = [np.empty(0, dtype=scores.dtype)]
    for positives, negatives in pairs_of_lists(scores, labels, rows):
        margins.append((positives[:, None] - negatives).ravel())
    return np.concatenate(margins)


def separation(scores: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Separation:
    """Measure how far positives and negatives are apart, by scores, labels and the query's number of each pair [N]."""
    positives, negatives = split_scores(scores, labels)
    within = list(starmap(auc, pairs_of_lists(scores, labels, rows)))
    margins = normalised_margins(scores, labels, rows)
    return Separation(
        overlap=overlap_area(positives, negatives),
        auc=auc(positives, negatives),
        auc_within=float(np.mean(within)) if within else np.nan,
        range=float(scores.max() - scores.min()),
        mean_margin=float(margins.mean()) if len(margins) else np.nan,
    )


def overlap_area(positives: np.ndarray, negatives: np.ndarray, bins: int | None = None) -> float:
    """Return the area under both of two densities, histograms of area 1 on the same bins: 1 for equal ones.

    By default there are 2 n^⅓ bins (Rice's rule) for the smaller sample's n. With many more, most bins hold none of
    it, and two samples of one distribution seem to differ.
    """
    smaller = min(len(positives), len(negatives))
    if smaller == 0:
        return np.nan
    bins = bins or math.ceil(2 * smaller ** (1 / 3))
    edges = np.histogram_bin_edges(np.concatenate([positives, negatives]), bins)
    positive_shares = np.histogram(positives, edges)[0] / len(positives)
    negative_shares = np.histogram(negatives, edges)[0] / len(negatives)
    return float(np.minimum(positive_shares, negative_shares).sum())


def auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Return the chance that a positive scores above a negative, a tie counting one half (Mann & Whitney)."""
    if len(positives) == 0 or len(negatives) == 0:
        return np.nan
    from scipy.stats import rankdata  # takes half a second to import

    ranks = rankdata(np.concatenate([positives, negatives]))[: len(positives)]  # equal scores share their rank
    wins = ranks.sum() - len(positives) * (len(positives) + 1) / 2
    return float(wins / (len(positives) * len(negatives)))


def agreement(teacher: np.ndarray, student: np.ndarray, rows: np.ndarray) -> Agreement:
    """Compare the scores [n] of teacher and student for the same documents.

    Raises InputError when the teacher has no spread within any list.
    """
    teacher_spreads, student_spreads, taus, same_best = [], [], [], []
    for part in groups(rows):
        teacher_spreads.append(teacher[part].std())
        student_spreads.append(student[part].std())
        taus.append(kendall_tau(teacher[part], student[part]))
        same_best.append(teacher[part].argmax() == student[part].argmax())
    spread = np.mean(teacher_spreads)
    if spread == 0:
        raise InputError("the teacher gives all documents of every query the same score: there is nothing to compare")
    defined = np.array(taus)[~np.isnan(taus)]
    return Agreement(
        baseline_shift=float(student.mean() - teacher.mean()),
        spread_ratio=float(np.mean(student_spreads) / spread),
        taus=defined,
        mean_tau=float(defined.mean()) if len(defined) else None,
        top_1=float(np.mean(same_best)),
    )


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's τ-b of two score lists [K]; NaN where one list has only ties, or one entry."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic) if len(first) > 1 else np.nan


def capacity(matrix: np.ndarray, ranks: tuple[int, ...] = RANKS) -> Capacity:
    """Compute the singular values of scores [B, N], and the errors of the best factors by size (Eckart, Young)."""
    matrix = np.asarray(matrix, dtype=np.float64)
    queries, values, documents = np.linalg.svd(matrix, full_matrices=False)
    centred = np.linalg.svd(matrix - matrix.mean(axis=1, keepdims=True), compute_uv=False)
    ranks = [rank for rank in ranks if rank < len(values)] + [len(values)]
    best = matrix.argmax(axis=1)
    errors, centred_errors, top_1 = [], [], []
    for rank in ranks:
        errors.append(tail_share(values, rank))
        centred_errors.append(tail_share(centred, rank))
        approximation = (queries[:, :rank] * values[:rank]) @ documents[:rank]
        top_1.append(float((approximation.argmax(axis=1) == best).mean()))
    return Capacity(
        ranks=ranks,
        errors=errors,
        centred_errors=centred_errors,
        top_1=top_1,
        singular_values=values,
        rank=int((values > values[0] * max(matrix.shape) * np.finfo(np.float32).eps).sum()),
    )


def tail_share(values: np.ndarray, rank: int) -> float:
    """Return sqrt(Σ_{i>r} σᵢ² / Σ σᵢ²); 0 for a matrix of zeros."""
    total = (values**2).sum()
    return float(np.sqrt((values[rank:] ** 2).sum() / total)) if total > 0 else 0.0


def gradient_ratio(teacher_margin: float, student_margin: float, temperatures: np.ndarray) -> np.ndarray:
    """Return τ² ∂softmax_distillation / (⅛ ∂margin_mse) with respect to the positive's score, per temperature τ.

    This is Proposition 3, for one positive and one negative. It tends to 1. Raises ValueError when the
    margins are equal: both gradients are then 0.
    """
    if teacher_margin == student_margin:
        raise ValueError(f"both margins are {teacher_margin}: the gradients are 0 and have no ratio")
    labels, mask = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool)
    teacher = torch.tensor([[teacher_margin, 0.0]], dtype=torch.float64)

    def gradient(loss: str, **options) -> float:
        """Return the gradient of a loss with respect to the positive's score."""
        student = torch.tensor([[student_margin, 0.0]], dtype=torch.float64, requires_grad=True)
        LOSSES[loss](student, teacher, labels, mask, **options).backward()
        return float(student.grad[0, 0])

    limit = gradient("margin_mse") / 8
    return np.array([t**2 * gradient("softmax_distillation", temperature=float(t)) / limit for t in temperatures])


def groups(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the places of each list, in order of first appearance."""
    order = np.argsort(rows, kind="stable")
    boundaries = np.flatnonzero(np.diff(rows[order])) + 1
    yield from sorted(np.split(order, boundaries), key=lambda part: part[0])


def pairs_of_lists(
    scores: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the scores of positives and of negatives of each list that has both."""
    for part in groups(rows):
        positives, negatives = split_scores(scores[part], labels[part])
        if len(positives) and len(negatives):
            yield positives, negatives
