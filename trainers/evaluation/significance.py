"""How sure a difference is, with queries as the sample: paired randomisation, Holm's correction, bootstrap intervals.

Smucker, Allan & Carterette (2007) compare the tests on retrieval runs; randomisation asks least of the data.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.run_metrics import Evaluation


PERMUTATIONS = 10_000
DRAWS_PER_CALL = 2**22  # random numbers in memory


@dataclass
class Comparison:
    """What is known of each system beside its mean, by measure: `intervals` (95%, bootstrap) and, but for the system
    `against` that the others are tested against, `p_values` (two-sided, Holm-corrected per measure)."""

    against: str | None
    intervals: dict[str, dict[str, tuple[float, float]]]
    p_values: dict[str, dict[str, float]]


def compare(evaluations: dict[str, Evaluation], against: str | None) -> Comparison:
    """Intervals of all systems, p-values of all but `against` (None: no tests).

    Raises InputError when `against` is not among them or two systems were not measured on the same queries.
    """
    if against is not None and against not in evaluations:
        raise InputError(f"no system {against!r} to compare with; there are {', '.join(evaluations)}")
    queries = [set(evaluation.per_query) for evaluation in evaluations.values()]
    if any(some != queries[0] for some in queries):
        raise InputError("systems can only be compared on the same queries")
    names = sorted(queries[0])
    columns = {
        system: {measure: np.array([evaluation.per_query[q][measure] for q in names]) for measure in evaluation.values}
        for system, evaluation in evaluations.items()
    }
    intervals = {
        system: {measure: bootstrap_interval(values) for measure, values in measured.items()}
        for system, measured in columns.items()
    }
    others = [system for system in evaluations if against is not None and system != against]
    p_values: dict[str, dict[str, float]] = {system: {} for system in others}
    for measure in columns[against] if others else ():
        raw = [randomisation_test(columns[system][measure], columns[against][measure]) for system in others]
        for system, corrected in zip(others, holm(raw), strict=True):
            p_values[system][measure] = corrected
    return Comparison(against, intervals, p_values)


def randomisation_test(
    first: np.ndarray, second: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """Two-sided p-value of the difference of two paired samples [n].

    If it did not matter which system a value comes from, each query's difference could as well have the other sign: p
    is the share of random signs whose mean is at least as far from 0 as the real one, the real one counted among them.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()  # sums in another order round otherwise
    generator = np.random.default_rng(seed)
    extreme = 0
    for count in parts(permutations, len(differences)):
        signs = generator.integers(0, 2, size=(count, len(differences)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ differences) >= observed).sum())
    return (1 + extreme) / (1 + permutations)


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction (1979) of m p-values: the smallest times m, the next times m − 1, …; at most 1."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, samples: int = PERMUTATIONS, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` [n] over samples of n of them, drawn with replacement."""
    means = np.concatenate([values[drawn].mean(axis=1) for drawn in resamples(len(values), samples, seed)])
    return percentiles(means, level)


def share_interval(
    value: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    level: float = 0.95,
    samples: int = PERMUTATIONS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """As `bootstrap_interval`, of the share (value − low) / (high − low) of the gap between two systems' means that a
    third one closes, all measured on the same n queries; None where samples without a gap reach into the interval."""
    means = [
        [column[drawn].mean(axis=1) for column in (value, low, high)] for drawn in resamples(len(value), samples, seed)
    ]
    values, lows, highs = np.concatenate(means, axis=1)
    gap = highs - lows
    if (gap <= 0).mean() > (1 - level) / 2:
        return None
    return percentiles((values - lows)[gap > 0] / gap[gap > 0], level)


def resamples(size: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """`samples` rows of `size` indices drawn with replacement, some rows at a time."""
    generator = np.random.default_rng(seed)
    for count in parts(samples, size):
        yield generator.integers(0, size, size=(count, size))


def percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def parts(total: int, width: int) -> Iterator[int]:
    """Row counts that add up to `total`, so few at a time that a matrix of `width` columns stays small."""
    step = max(1, DRAWS_PER_CALL // max(width, 1))
    for start in range(0, total, step):
        yield min(step, total - start)
