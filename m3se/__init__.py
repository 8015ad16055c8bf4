"""Dual encoders and ColBERT that learn to rank from a cross-encoder. Names are loaded when they are first used."""

from importlib import import_module
from importlib.metadata import version
from pkgutil import extend_path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from m3se.modeling.colbert import ColBERT, ColBERTConfig
    from m3se.modeling.cross_encoder import CrossEncoder, CrossEncoderConfig
    from m3se.modeling.dual_encoder import DualEncoder, DualEncoderConfig
    from m3se.modeling.outputs import RankingOutput
    from m3se.trainers.collators import RankingCollator
    from m3se.trainers.config import RankingConfig
    from m3se.trainers.data.readers import read_data
    from m3se.trainers.distillation_trainer import DistillationTrainer
    from m3se.trainers.errors import InputError
    from m3se.trainers.evaluation.run_metrics import evaluate_run
    from m3se.trainers.losses import LOSSES
    from m3se.trainers.retrieval.loading import load_scorer

MODULES = {
    "ColBERT": "modeling.colbert",
    "ColBERTConfig": "modeling.colbert",
    "CrossEncoder": "modeling.cross_encoder",
    "CrossEncoderConfig": "modeling.cross_encoder",
    "DualEncoder": "modeling.dual_encoder",
    "DualEncoderConfig": "modeling.dual_encoder",
    "RankingOutput": "modeling.outputs",
    "DistillationTrainer": "trainers.distillation_trainer",
    "RankingConfig": "trainers.config",
    "RankingCollator": "trainers.collators",
    "LOSSES": "trainers.losses",
    "InputError": "trainers.errors",
    "read_data": "trainers.data.readers",
    "load_scorer": "trainers.retrieval.loading",
    "evaluate_run": "trainers.evaluation.run_metrics",
}

__all__ = [
    "LOSSES",
    "ColBERT",
    "ColBERTConfig",
    "CrossEncoder",
    "CrossEncoderConfig",
    "DistillationTrainer",
    "DualEncoder",
    "DualEncoderConfig",
    "InputError",
    "RankingCollator",
    "RankingConfig",
    "RankingOutput",
    "evaluate_run",
    "load_scorer",
    "read_data",
]

# From the root of a clone Python finds this folder first, without the others: they are where `m3se` is installed.
__path__ = extend_path(__path__, __name__)


def __getattr__(name: str):
    """Import the module of a public name. Raises AttributeError for any other name."""
    if name == "__version__":
        return version("m3se")
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return [*__all__, "__version__"]
