"""Softmax of a teacher's scores: its sharpness at a temperature, and the temperature of a given sharpness."""

from dataclasses import dataclass

import numpy as np


# Share of the softmax that the best document of a list has on average, at the temperature of `auto`: enough order
# among the others to learn from (a share of 1 is what labels say too), and a best document still.
TOP_SHARE = 0.6
STEPS = 48  # of bisection: the temperature is then exact to twelve digits
RANGE = 1e-6, 1e6  # of temperatures, in multiples of the spread of the scores


@dataclass(frozen=True)
class SoftmaxTargets:
    """Means over all lists of softmax(teacher_scores / temperature).

    Attributes:
        temperature: the scores are divided by it.
        top_probability: probability of a list's best document.
        effective_documents: documents that the probability is spread over, the exponential of its entropy.
    """

    temperature: float
    top_probability: float
    effective_documents: float


def softmax_targets(scores: np.ndarray, starts: np.ndarray, sizes: np.ndarray, temperature: float) -> SoftmaxTargets:
    """Describe the softmax over each list; lists start at `starts` and hold `sizes` scores."""
    best = np.maximum.reduceat(scores, starts)
    shifted = (scores - np.repeat(best, sizes)) / temperature
    normaliser = np.log(np.add.reduceat(np.exp(shifted), starts))
    logarithms = shifted - np.repeat(normaliser, sizes)
    entropy = -np.add.reduceat(np.exp(logarithms) * logarithms, starts)
    return SoftmaxTargets(temperature, float(np.exp(-normaliser).mean()), float(np.exp(entropy).mean()))


def auto_share(value: object) -> float | None:
    """Return the share that a `teacher_temperature` of `auto` or `auto SHARE` asks for; None for any other value."""
    words = value.split() if isinstance(value, str) else []
    if words == ["auto"]:
        return TOP_SHARE
    if len(words) != 2 or words[0] != "auto":
        return None
    try:
        share = float(words[1])
    except ValueError:
        return None
    return share if 0 < share < 1 else None


def find_temperature(scores: np.ndarray, sizes: np.ndarray, share: float = TOP_SHARE) -> float | None:
    """Find T such that the best document of a list has `share` of softmax(scores / T) on average.

    The share falls from 1 to 1 / K while T grows, so bisection finds it. Lists of one document are left out.

    Args:
        scores: of all lists, one after the other [n].
        sizes: documents of each list [lists].
        share: between 0 and 1.

    Returns:
        T, or None where no temperature gives that share: too few documents, or too many equal scores.
    """
    several = sizes > 1
    scores, sizes = scores[np.repeat(several, sizes)], sizes[several]
    spread = float(scores.std()) if len(scores) else 0.0
    if spread == 0:
        return None
    starts = np.append(0, np.cumsum(sizes)[:-1])
    low, high = (spread * bound for bound in RANGE)

    def top_share(temperature: float) -> float:
        """Return the mean share of the best document."""
        return softmax_targets(scores, starts, sizes, temperature).top_probability

    if not top_share(low) > share > top_share(high):
        return None
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if top_share(middle) > share else (low, middle)
    return (low * high) ** 0.5
