"""Teachers: cross-encoders whose scores students learn from, kept in a cache."""

from m3se.trainers.teacher.annotate import annotate
from m3se.trainers.teacher.calibration import calibrate
from m3se.trainers.teacher.pair_scorer import PairScorer


__all__ = ["PairScorer", "annotate", "calibrate"]
