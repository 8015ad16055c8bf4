"""Data → scores → gradient, scores → metric. Names are loaded when used: reading a run file needs no torch."""

from importlib import import_module


HOMES = {
    "LOSSES": "losses",
    "DistillationTrainer": "distillation_trainer",
    "InputError": "errors",
    "RankingCollator": "collators",
    "RankingConfig": "config",
}

__all__ = list(HOMES)


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
