"""Significance of differences, queries being the sample: paired randomisation, Holm's correction, bootstrap intervals.

Smucker, Allan & Carterette (2007) compare the tests on retrieval runs; randomisation asks least of the data.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.run_metrics import Evaluation


PERMUTATIONS = 10_000
DRAWS_PER_CALL = 2**22  # random numbers in memory


@dataclass
class Comparison:
    """Intervals and p-values of each system, by measure.

    `intervals` are 95% bootstrap intervals. `p_values` (two-sided, Holm-corrected per measure) are of all systems but
    `against`, the one that they are tested against.
    """

    against: str | None
    intervals: dict[str, dict[str, tuple[float, float]]]
    p_values: dict[str, dict[str, float]]


def compare(evaluations: dict[str, Evaluation], against: str | None) -> Comparison:
    """Compute intervals of all systems, p-values of all but `against` (None: no tests).

    Raises InputError when `against` is not among them or two systems were not measured on the same queries.
    """
    if against is not None and against not in evaluations:
        raise InputError(f"no system {against!r} to compare with; there are {', '.join(evaluations)}")
    queries = next(iter(evaluations.values())).per_query.keys()
    for evaluation in evaluations.values():
        if evaluation.per_query.keys() != queries:
            raise InputError("systems can only be compared on the same queries")
    columns: dict[str, dict[str, np.ndarray]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for system, evaluation in evaluations.items():
        columns[system] = values_by_measure(evaluation)
        intervals[system] = {measure: bootstrap_interval(values) for measure, values in columns[system].items()}
    tested = [system for system in evaluations if against is not None and system != against]
    p_values: dict[str, dict[str, float]] = {}
    for measure in columns[against] if tested else ():
        raw = [randomisation_test(columns[system][measure], columns[against][measure]) for system in tested]
        for system, corrected in zip(tested, holm(raw), strict=True):
            p_values.setdefault(system, {})[measure] = corrected
    return Comparison(against, intervals, p_values)


def values_by_measure(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Return the values of every measure [n], the queries in the order of their ids."""
    queries = sorted(evaluation.per_query)
    columns = {}
    for measure in evaluation.values:
        columns[measure] = np.array([evaluation.per_query[query][measure] for query in queries])
    return columns


def randomisation_test(
    first: np.ndarray, second: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """Return the two-sided p-value of the difference of two paired samples [n].

    If it did not matter which system a value comes from, each query's difference could as well have the other sign: p
    is the share of random signs whose mean is at least as far from 0 as the real one, the real one counted among them.

    `scipy.stats.permutation_test` gives the same up to the draw of the signs. With its draws every published p-value
    would change.
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
    """Correct m p-values as Holm does (1979): the smallest times m, the next times m − 1, …; at most 1."""
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
    """Return the percentile interval of the mean of `values` [n] over samples of n, drawn with replacement."""
    return percentiles(bootstrap(np.mean, [values], samples, seed), level)


def share_interval(
    value: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    level: float = 0.95,
    samples: int = PERMUTATIONS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the bootstrap interval of the share of a gap that is closed: (value − low) / (high − low) of the means.

    None where samples without a gap reach into the interval.

    Args:
        value: of the system between, [n], one number a query.
        low, high: of the systems that leave the gap, [n], on the same queries.
        level: probability that the interval covers.
        samples: how many are drawn, with replacement.
        seed: of the draws.
    """

    def share(value: np.ndarray, low: np.ndarray, high: np.ndarray, axis: int) -> np.ndarray:
        """Return the share of each sample; NaN without a gap."""
        start = low.mean(axis=axis)
        gap = high.mean(axis=axis) - start
        return np.divide(value.mean(axis=axis) - start, gap, out=np.full_like(gap, np.nan), where=gap > 0)

    shares = bootstrap(share, [value, low, high], samples, seed)
    without_gap = np.isnan(shares)
    return None if without_gap.mean() > (1 - level) / 2 else percentiles(shares[~without_gap], level)


def bootstrap(statistic: Callable, columns: list[np.ndarray], samples: int, seed: int) -> np.ndarray:
    """Return the statistic of each of `samples` samples of the columns [n], drawn with replacement and together."""
    from scipy import stats  # takes half a second to import

    columns = list(np.asarray(columns, dtype=np.float64))
    if len(columns[0]) < 2:  # scipy refuses fewer
        return np.atleast_1d(statistic(*columns, axis=0))
    batch = next(parts(samples, len(columns[0])))
    generator = np.random.default_rng(seed)
    options = {"paired": True, "vectorized": True, "method": "percentile"}
    with warnings.catch_warnings(action="ignore", category=stats.DegenerateDataWarning):
        drawn = stats.bootstrap(columns, statistic, n_resamples=samples, batch=batch, rng=generator, **options)
    return drawn.bootstrap_distribution


def percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    """Return the interval that holds the middle `level` of the values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def parts(total: int, width: int) -> Iterator[int]:
    """Yield row counts that add up to `total`, so few at a time that a matrix of `width` columns stays small."""
    step = max(1, DRAWS_PER_CALL // max(width, 1))
    for start in range(0, total, step):
        yield min(step, total - start)
