"""Data → scores → gradient, scores → metric."""

from collections.abc import Callable
from importlib import import_module

import m3se


__all__ = ["LOSSES", "DistillationTrainer", "InputError", "RankingCollator", "RankingConfig"]


def __getattr__(name: str):
    """Return a public name of the trainers, which is loaded when it is first used."""
    if name in __all__:
        return getattr(m3se, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def lazy_names(package: str, modules: dict[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package whose names are loaded when they are first used.

    Args:
        package: its name.
        modules: the module in it, by the public name.
    """

    def load(name: str) -> object:
        """Import the module of a public name. Raises AttributeError for any other name."""
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return load
