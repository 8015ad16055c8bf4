"""ColBERT models in the layouts they are published in.

* Stanford: `architectures: ["HF_ColBERT"]`, `linear.weight` beside the backbone, settings in artifact.metadata. Our
  own published folders are of this kind, with all fields of our config in config.json.
* PyLate: modules.json of a Transformer and linear layers, settings in config_sentence_transformers.json.
* Hofstätter et al.: `bert_model.*` and `compressor.*`, whose own class transformers 5 can no longer load. It has no
  markers, no skiplist and no unit length; eight [MASK] follow every query.
"""

import string
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from .checkpoints import FIELDS_KEY, module_kinds, own_fields, read_projection, starting_prompts
from .colbert_inputs import token_fields
from .encoders import load_encoder
from .repository import read_json, read_weights


@dataclass
class Checkpoint:
    """The parts of a ColBERT model: `fields` of `ColBERTConfig`, `projection` the state dict of its linear layer."""

    encoder: PreTrainedModel
    projection: dict[str, Tensor]
    fields: dict


def layout(name_or_path: str, **hub) -> str | None:
    """Tell which of the layouts above a ColBERT model has, "ours" for a checkpoint of ours; None if it is none."""
    config = read_json(name_or_path, "config.json", **hub) or {}
    if config.get("model_type") == "colbert":
        return "ours"
    if FIELDS_KEY in config:
        return "published" if config[FIELDS_KEY]["model_type"] == "colbert" else None
    if "HF_ColBERT" in (config.get("architectures") or []):
        return "stanford"
    if config.get("model_type") == "ColBERT" and "compression_dim" in config:
        return "hofstaetter"
    settings = read_json(name_or_path, "config_sentence_transformers.json", **hub) or {}
    return "pylate" if "query_prefix" in settings else None


def read_checkpoint(name_or_path: str, **hub) -> Checkpoint | None:
    """Read the ColBERT model of a folder or Hub repository; None for a checkpoint of ours, or an empty folder.

    Raises:
        ValueError: not a ColBERT model, or one with settings that ours does not have.
    """
    config = read_json(name_or_path, "config.json", **hub)
    form = layout(name_or_path, **hub)
    if config is None or form == "ours":
        return None
    if form is None:
        kind = config.get(FIELDS_KEY, config).get("model_type")
        raise ValueError(f"{name_or_path} holds a {kind} model, not ColBERT: start one by from_encoder")
    readers = {
        "published": read_published,
        "stanford": read_stanford,
        "hofstaetter": read_hofstaetter,
        "pylate": read_pylate,
    }
    return readers[form](name_or_path, config, **hub)


def read_published(name_or_path: str, config: dict, **hub) -> Checkpoint:
    """Read the folder that `hub_cards.layouts.write_colbert` wrote."""
    fields = own_fields(name_or_path, config[FIELDS_KEY], "colbert")
    projection = {"weight": read_weights(name_or_path, **hub)["linear.weight"]}
    return Checkpoint(load_encoder(AutoModel, name_or_path, None, **hub), projection, fields)


def read_stanford(name_or_path: str, config: dict, **hub) -> Checkpoint:
    """Read a checkpoint of colbert-ai, such as colbert-ir/colbertv2.0; its defaults stand for missing settings."""
    settings = read_json(name_or_path, "artifact.metadata", **hub) or {}
    if settings.get("similarity", "cosine") != "cosine":
        raise ValueError(f"{name_or_path} compares tokens by {settings['similarity']}; only cosine is known here")
    weights = read_weights(name_or_path, **hub)
    encoder = new_backbone(name_or_path, **hub)
    load_backbone(encoder, name_or_path, weights, f"{encoder.base_model_prefix}.")
    projection = {"weight": weights["linear.weight"]}
    markers = settings.get("query_token_id", "[unused0]"), settings.get("doc_token_id", "[unused1]")
    skiplist = list(string.punctuation) if settings.get("mask_punctuation", True) else []
    tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **hub)
    fields = token_fields(tokenizer, markers, skiplist) | {
        "query_length": settings.get("query_maxlen", 32),
        "document_length": settings.get("doc_maxlen", 220),
        "attend_to_mask": settings.get("attend_to_mask_tokens", False),
        "projection_size": len(projection["weight"]),
        "reduction": "sum",
    }
    return Checkpoint(encoder, projection, fields)


def read_pylate(name_or_path: str, config: dict, **hub) -> Checkpoint:
    """Read a model saved by PyLate, such as lightonai/GTE-ModernColBERT-v1 or lightonai/LateOn."""
    settings = read_json(name_or_path, "config_sentence_transformers.json", **hub)
    modules = read_json(name_or_path, "modules.json", **hub) or []
    kinds = module_kinds(modules)
    if kinds[:1] != ["Transformer"] or set(kinds[1:]) != {"Dense"}:
        raise ValueError(f"{name_or_path} is made of {kinds}; expected a Transformer, then Dense")
    projection = read_projection(name_or_path, **hub)
    prefixes = settings["query_prefix"], settings["document_prefix"]
    prompts = starting_prompts(name_or_path, **hub)
    for field, marker in zip(("query_prompt", "document_prompt"), prefixes, strict=True):
        prompts[field] = prompts.get(field, "").removeprefix(marker)  # some folders have the marker in both places
    skiplist = settings.get("skiplist_words")
    tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **hub)
    fields = token_fields(
        tokenizer, prefixes if any(prefixes) else None, list(string.punctuation) if skiplist is None else skiplist
    ) | {
        "query_length": settings.get("query_length", 32),
        "document_length": settings.get("document_length", 180),
        "mask_augmentation": "fill" if settings.get("do_query_expansion", True) else "none",
        "attend_to_mask": settings.get("attend_to_expansion_tokens") or False,
        "projection_size": len(projection["weight"]),
        "projection_bias": "bias" in projection,
        "reduction": "sum",
    }
    return Checkpoint(load_encoder(AutoModel, name_or_path, None, **hub), projection, fields | prompts)


def read_hofstaetter(name_or_path: str, config: dict, **hub) -> Checkpoint:
    """Read sebastian-hofstaetter/colbert-distilbert-margin_mse-T2-msmarco and its like (Hofstätter et al., 2020)."""
    weights = read_weights(name_or_path, **hub)
    base = config["bert_model"]  # the repository lacks its config, and was trained with its tokenizer
    elsewhere = {name: value for name, value in hub.items() if name not in ("revision", "subfolder")}
    encoder = new_backbone(base, **elsewhere)
    load_backbone(encoder, name_or_path, weights, "bert_model.")
    projection = {"weight": weights["compressor.weight"], "bias": weights["compressor.bias"]}
    fields = token_fields(AutoTokenizer.from_pretrained(base, trust_remote_code=False, **elsewhere), None, []) | {
        "query_length": 30,
        "document_length": 200,
        "projection_size": config["compression_dim"],
        "projection_bias": True,
        "normalize": False,
        "reduction": "sum",
        "mask_augmentation": "append",
        "mask_tokens": 8,
        "attend_to_mask": True,
    }
    return Checkpoint(encoder, projection, fields)


def new_backbone(name_or_path: str, **hub) -> PreTrainedModel:
    """Make the model of a config with new weights, in float32 whatever format the config was saved in."""
    config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, dtype=torch.float32, **hub)
    return AutoModel.from_config(config)


def load_backbone(encoder: PreTrainedModel, name_or_path: str, weights: dict[str, Tensor], prefix: str) -> None:
    """Fill `encoder` with the weights named `{prefix}*`; raises ValueError when one of its own is not among them."""
    own = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    missing = encoder.load_state_dict(own, strict=False).missing_keys
    if missing := [name for name in missing if not name.startswith("pooler.")]:
        raise ValueError(f"{name_or_path} has no weights for {missing[0]} of its {encoder.config.model_type}")
