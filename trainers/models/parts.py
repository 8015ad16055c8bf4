"""The parts of a model in training: ours inside what is wrapped around it, and its transformers."""

import torch
from transformers import PreTrainedModel

from m3se.modeling.colbert import ColBERT
from m3se.modeling.cross_encoder import CrossEncoder
from m3se.modeling.dual_encoder import DualEncoder


RANKING_MODELS = (ColBERT, CrossEncoder, DualEncoder)


def find_ranking_model(model: torch.nn.Module) -> PreTrainedModel:
    """Find our model inside whatever PEFT has wrapped around it; raises TypeError where there is none."""
    for module in model.modules():
        if isinstance(module, RANKING_MODELS):
            return module
    raise TypeError(
        f"expected one of {', '.join(kind.__name__ for kind in RANKING_MODELS)}, got {type(model).__name__}"
    )


def document_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return the transformer that reads documents."""
    untied = isinstance(model, DualEncoder) and not model.config.tied
    return model.document_encoder if untied else model.encoder
