"""Data → scores → gradient, scores → metric."""

import m3se


__all__ = ["LOSSES", "DistillationTrainer", "InputError", "RankingCollator", "RankingConfig"]


def __getattr__(name: str):
    """Return a public name of the trainers, which is loaded when it is first used."""
    if name in __all__:
        return getattr(m3se, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
