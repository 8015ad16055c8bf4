"""The mean of several teachers' scores."""

from collections.abc import Sequence

import numpy as np


RAW_MEAN = "mean of the raw scores"
STANDARDISED_MEAN = "mean of the scores standardised within each list, because the teachers' scales differ"


def combine(columns: Sequence[np.ndarray], scales: Sequence[str], sizes: np.ndarray) -> tuple[np.ndarray, str]:
    """Average teachers' scores, and say how.

    Scores on different scales are standardised within each list first: else the teacher with the widest scale decides
    alone. A pair that some teacher does not score has no mean.

    Args:
        columns: the scores [pairs] of each teacher, NaN where it has none.
        scales: a name of each teacher's scale; equal names stand for the same one.
        sizes: documents of every list [lists]; they add up to the pairs.

    Returns:
        The means [pairs] float32, and how they were made.
    """
    if len(set(scales)) == 1:
        return np.mean(columns, axis=0, dtype=np.float64).astype(np.float32), RAW_MEAN
    standardised = [standardise(column, sizes) for column in columns]
    return np.mean(standardised, axis=0, dtype=np.float64).astype(np.float32), STANDARDISED_MEAN


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
