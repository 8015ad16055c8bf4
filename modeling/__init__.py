"""Scoring models. Names are loaded when used: transformers' model classes take seconds to import."""

from importlib import import_module


HOMES = {
    "ColBERT": "colbert",
    "ColBERTConfig": "colbert",
    "CrossEncoder": "cross_encoder",
    "CrossEncoderConfig": "cross_encoder",
    "DualEncoder": "dual_encoder",
    "DualEncoderConfig": "dual_encoder",
    "RankingOutput": "outputs",
    "dot_scores": "scoring",
    "maxsim_scores": "scoring",
}

__all__ = list(HOMES)


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
