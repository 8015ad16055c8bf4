"""The published form of a trained model: a stock backbone with our fields beside it, or our class with its code.

`checkpoints` and `colbert_checkpoints` read what is described here. Nothing imports this module, so it stays at home.
"""

import string
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import get_relative_import_files

from .colbert import ColBERT
from .colbert_inputs import token_fields
from .cross_encoder import CrossEncoder
from .dual_encoder import DualEncoder


CLASSES = {model.config_class.model_type: model for model in (ColBERT, CrossEncoder, DualEncoder)}
ONE_LABEL = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}


def reasons_for_code(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """List what keeps a model from being a plain backbone, or Stanford's ColBERT; nothing does if it is empty."""
    config = model.config
    if isinstance(model, DualEncoder):
        reasons = {
            "queries and documents have encoders of their own": not config.tied,
            "a LayerNorm follows the pooling": config.output_norm,
        }
    elif isinstance(model, ColBERT):
        punctuation = token_fields(tokenizer, None, list(string.punctuation))["skiplist_ids"]
        reasons = {
            "token embeddings are not of unit length": not config.normalize,
            "the projection has a bias": config.projection_bias,
            "queries are not filled up with [MASK]": config.mask_augmentation != "fill",
            "queries and documents are not marked": None in (config.query_marker_id, config.document_marker_id),
            "the words not compared are not those of punctuation": (config.skiplist_ids or punctuation) != punctuation,
        }
    else:
        reasons = {}
    return [reason for reason, applies in reasons.items() if applies]


def config_fields(model: PreTrainedModel) -> dict:
    """Return the fields that our config class adds to those of the backbone, with the scale that was reached."""
    fields = {name: getattr(model.config, name) for name in model.config.field_names()}
    return fields | ({"scale": model.reached_scale()} if "scale" in fields else {})


def encoder_config(model: PreTrainedModel) -> dict:
    """Return the backbone's config.json."""
    labels = ONE_LABEL if has_two_labels(model) else {}
    return model.encoder.config.to_diff_dict() | {"architectures": [type(model.encoder).__name__]} | labels


def encoder_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights that belong to `encoder_config`; raises ValueError as `one_logit` does."""
    return one_logit(model.encoder) if has_two_labels(model) else model.encoder.state_dict()


def own_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights of our class that belong to `config_fields`: a learned scale starts anew from there."""
    weights = model.state_dict()
    for name in weights:
        if name.startswith("score_scale."):
            weights[name] = torch.zeros_like(weights[name])
    return weights


def projection_weight(model: ColBERT) -> Tensor:
    """Return the matrix [dim, H] from the backbone's width to that of the embeddings; the unit matrix if none is."""
    return torch.eye(model.encoder.config.hidden_size) if model.projection is None else model.projection.weight


def has_two_labels(model: PreTrainedModel) -> bool:
    """Say if a model is a classifier whose score is the difference of two logits."""
    return isinstance(model, CrossEncoder) and model.encoder.config.num_labels == 2


def one_logit(classifier: PreTrainedModel) -> dict[str, Tensor]:
    """Return a two-label classifier's weights with the difference of the labels, our score, as its one logit.

    Raises:
        ValueError: the last layer is not to be found.
    """
    weights = classifier.state_dict()
    heads = []
    for name, layer in classifier.named_modules():
        if isinstance(layer, torch.nn.Linear) and layer.out_features == 2:
            heads.append(name)
    if len(heads) != 1:
        raise ValueError(f"{type(classifier).__name__} has {len(heads)} layers of two outputs, expected one")
    for name in (f"{heads[0]}.weight", f"{heads[0]}.bias"):
        if name in weights:
            weights[name] = weights[name][1:] - weights[name][:1]
    return weights


def stanford_metadata(model: ColBERT, tokenizer: PreTrainedTokenizerBase) -> dict:
    """Return the content of artifact.metadata: our settings by the names of Stanford's ColBERT."""
    config = model.config
    markers = [config.query_marker_id, config.document_marker_id]
    query_token, document_token = tokenizer.convert_ids_to_tokens(markers)
    return {
        "query_token_id": query_token,
        "doc_token_id": document_token,
        "query_token": "[Q]",
        "doc_token": "[D]",
        "query_maxlen": config.query_length,
        "doc_maxlen": config.document_length,
        "dim": config.projection_size or config.encoder_config.hidden_size,
        "similarity": "cosine",
        "mask_punctuation": bool(config.skiplist_ids),
        "attend_to_mask_tokens": config.attend_to_mask,
        "interaction": "colbert",
    }


def own_code(model: PreTrainedModel) -> dict:
    """Return the entries of config.json that lead `trust_remote_code` to our class."""
    module, name = model.config.model_type, type(model).__name__
    auto_map = {"AutoConfig": f"{module}.{name}Config", "AutoModel": f"{module}.{name}"}
    return {"model_type": module, "architectures": [name], "auto_map": auto_map}


def code_files(kind: str) -> list[Path]:
    """List the files that travel with a class ("dual_encoder", "colbert"): its own, and all that it imports."""
    file = Path(__file__).with_name(f"{kind}.py")
    return [file, *sorted(set(map(Path, get_relative_import_files(file))))]
