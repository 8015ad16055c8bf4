"""The mean of several teachers' scores."""

import math
from collections.abc import Sequence

import numpy as np

from m3se.trainers.errors import InputError


RAW_MEAN = "mean of the raw scores"
STANDARDISED_MEAN = "mean of the scores standardised within each list, because the teachers' scales differ"


def combine(
    columns: Sequence[np.ndarray], scales: Sequence[str], sizes: np.ndarray, weights: Sequence[float] | None = None
) -> tuple[np.ndarray, str]:
    """Average teachers' scores, and say how.

    Scores on different scales are standardised within each list first: else the teacher with the widest scale decides
    alone. A pair that some teacher does not score has no mean.

    Args:
        columns: the scores [pairs] of each teacher, NaN where it has none.
        scales: a name of each teacher's scale; equal names stand for the same one.
        sizes: documents of every list [lists]; they add up to the pairs.
        weights: how much each teacher counts, one above 0 per teacher in any unit; None: all the same.

    Returns:
        The means [pairs] float32, and how they were made.
    """
    description = RAW_MEAN
    if len(set(scales)) > 1:
        columns, description = [standardise(column, sizes) for column in columns], STANDARDISED_MEAN
    if weights is None:
        return np.mean(columns, axis=0, dtype=np.float64).astype(np.float32), description
    means = np.average(np.asarray(columns, dtype=np.float64), axis=0, weights=weights)
    return means.astype(np.float32), f"{description}, weighted {' : '.join(f'{weight:g}' for weight in weights)}"


def check_weights(weights: Sequence[float], teachers: int) -> None:
    """Raise InputError unless there is a weight above 0 for each teacher, or none at all."""
    if weights and (len(weights) != teachers or not all(0 < weight < math.inf for weight in weights)):
        got = " ".join(map(str, weights))
        raise InputError(f"--teacher_weights: expected a number above 0 for each of {teachers} teachers, got {got}")


def standardise(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Bring the known scores of each list to mean 0 and standard deviation 1: [pairs] float64.

    A list of equal scores becomes 0. NaN stays.
    """
    rows = np.repeat(np.arange(len(sizes)), sizes)
    is_known = ~np.isnan(scores)
    values = np.where(is_known, scores, 0).astype(np.float64)
    counts = np.maximum(np.bincount(rows, is_known, len(sizes)), 1)
    means = np.bincount(rows, values, len(sizes)) / counts
    shifted = np.where(is_known, scores - means[rows], 0)
    deviations = np.sqrt(np.bincount(rows, shifted**2, len(sizes)) / counts)[rows]
    divisors = np.where(deviations > 0, deviations, 1)
    return np.where(is_known, shifted / divisors, np.nan)
