"""Filters of negatives by teacher score, against documents that are relevant although nobody judged them."""

import math
from collections import Counter
from dataclasses import dataclass, fields

import numpy as np

from m3se.trainers.errors import InputError


WITHOUT_SCORE = "no teacher score"
LOOKED_AT = "looked at"


@dataclass(frozen=True)
class ScoreFilters:
    """Bounds on the teacher's score t of a negative; None: no such bound. p is the lowest score of a positive.

    They are sentence-transformers' `absolute_margin`, `relative_margin`, `max_score` and `min_score`, on the teacher's
    scale: the relative margin is a share of |p|, so that it means the same for scores below 0. The margins say nothing
    about a query without a positive.

    Attributes:
        margin: t ≤ p − margin.
        relative_margin: t ≤ p − relative_margin · |p|.
        max_score: t ≤ max_score.
        min_score: t ≥ min_score.
    """

    margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None

    def __post_init__(self):
        """Raise InputError for a margin below 0, a bound that is no number, or bounds that exclude each other."""
        for name, value in self.bounds().items():
            if not math.isfinite(value) or (name.endswith("margin") and value < 0):
                raise InputError(f"{name}: expected a number{', 0 or more' * name.endswith('margin')}, got {value}")
        if None not in (self.min_score, self.max_score) and self.min_score > self.max_score:
            raise InputError(f"min_score {self.min_score:g} is above max_score {self.max_score:g}: no score is left")

    def bounds(self) -> dict[str, float]:
        """Return the bounds that are set, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def passing(self, scores: np.ndarray, positive: float | None, counts: Counter[str]) -> np.ndarray:
        """Tell which scores [n] pass every bound: bool [n].

        Args:
            scores: of a query's negatives, NaN where unknown. An unknown score passes no bound.
            positive: p; NaN where the positive's score is unknown, so that no negative keeps a margin to it; None for
                a query without a positive.
            counts: `LOOKED_AT`, and what each bound drops of the scores that passed those before it.
        """
        passing = np.ones(len(scores), dtype=bool)
        tests = {WITHOUT_SCORE: ~np.isnan(scores)}
        if positive is not None:
            tests["margin"] = scores <= positive - (self.margin or 0)
            tests["relative_margin"] = scores <= positive - (self.relative_margin or 0) * abs(positive)
        tests["max_score"] = scores <= (math.inf if self.max_score is None else self.max_score)
        tests["min_score"] = scores >= (-math.inf if self.min_score is None else self.min_score)
        counts[LOOKED_AT] += len(scores)
        for name, fits in tests.items():
            if name == WITHOUT_SCORE or name in self.bounds():
                counts[name] += int((passing & ~fits).sum())
                passing &= fits
        return passing
