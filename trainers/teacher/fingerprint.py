"""Fingerprints of models: the same one wherever the same weights lie, another one as soon as a score may differ.

Caches of scores and of embeddings are found by them, so a change of what is hashed makes every cache useless.
"""

import json
from hashlib import blake2b

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from m3se.modeling.checkpoints import FIELDS_KEY


# Entries of a config that do not change a score.
NEUTRAL_FIELDS = {
    "_name_or_path",
    "architectures",
    "dtype",
    "sentence_transformers",  # the activation it puts on the logit
    "transformers_version",
    FIELDS_KEY,
}

# Fields that came later, at the value that changes no score.
LATER_FIELDS = {
    "query_prompt": "",
    "document_prompt": "",
    "normalize": False,
    "scale": None,
    "learn_scale": False,
    "document_model": None,
}


def classifier_fingerprint(classifier: torch.nn.Module, *description: object) -> str:
    """Hash the weights of a pair classifier, then its description (JSON values): 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    add_weights(digest, classifier)
    digest.update(json.dumps(description, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def embedder_fingerprint(model: torch.nn.Module, *description: object) -> str:
    """Hash the description (JSON values) of a model that embeds texts, then its weights: 32 hexadecimal digits."""
    digest = blake2b(json.dumps(description, sort_keys=True, default=str).encode(), digest_size=16)
    add_weights(digest, model)
    return digest.hexdigest()


def add_weights(digest: blake2b, model: torch.nn.Module) -> None:
    """Hash name, number format, shape and bytes of every tensor of a model, by name."""
    for name, weights in sorted(model.state_dict().items()):
        digest.update(f"{name} {weights.dtype} {tuple(weights.shape)}".encode())
        digest.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def config_description(config: PreTrainedConfig) -> dict:
    """Return the entries of a config that may change a score."""
    description = {}
    for key, value in config.to_dict().items():
        if key not in NEUTRAL_FIELDS and not (key in LATER_FIELDS and value == LATER_FIELDS[key]):
            description[key] = value
    return description


def tokenizer_description(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> dict:
    """Return everything in a tokenizer that decides token ids, without the padding and truncation of its last call."""
    if isinstance(tokenizer, PreTrainedTokenizerBase) and not tokenizer.is_fast:
        return {"vocabulary": tokenizer.get_vocab(), "special": tokenizer.special_tokens_map}
    backend = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer.backend_tokenizer
    description = json.loads(backend.to_str())
    return {key: value for key, value in description.items() if key not in ("padding", "truncation")}
