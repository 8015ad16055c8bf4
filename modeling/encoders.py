"""The pretrained transformer inside a model: loaded in float32, cut to its first layers, with another dropout."""

import inspect

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, PreTrainedConfig, PreTrainedModel

from .repository import hub_arguments


NO_LIMIT = torch.iinfo(torch.int32).max  # positions of a model without a table of them; tokenizers accept it
ENCODER_HALVES = {"t5", "mt5", "umt5"}  # encoder-decoders whose encoder is a model of its own
# The first positions of these belong to padding: a table of 514 holds texts of 512 tokens.
OFFSET_POSITIONS = {
    "altclip_text_model",
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "xmod",
}
SHARED_BY_LAYERS = (".albert_layer_groups.", ".relative_attention_bias.")  # weights that an encoder has without any


def encoder_class(config: PreTrainedConfig) -> type:
    """Return the auto class that makes a text encoder of a config: AutoModel, but for half of an encoder-decoder."""
    return AutoModelForTextEncoding if config.model_type in ENCODER_HALVES else AutoModel


def make_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Make a text encoder of random weights."""
    return encoder_class(config).from_config(config)


def load_encoder(
    auto_class: type, name_or_path: str, layers: int | None = None, dropout: float | None = None, **config_fields
) -> PreTrainedModel:
    """Load a pretrained model by its auto class, in float32 whatever its weights are saved in.

    `AutoModel` stands for the encoder half of T5 and its like. Pickled weights and code of the repository are never
    read.

    Args:
        auto_class: `AutoModel` or another auto class of transformers.
        name_or_path: Hub id or folder.
        layers: keep the first transformer layers only; 0: the embeddings of single tokens.
        dropout: rate of every dropout inside it; None: its own.
        config_fields: changes of its config (`num_labels`), or arguments of the Hub (`revision`, `token` …).

    Raises:
        ValueError: a model that is not an encoder, does not have that many layers, or lacks weights.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **config_fields)
    except (OSError, ValueError):
        raise
    except Exception as error:  # an architecture's own code raises anything for a field that does not fit
        raise ValueError(f"{name_or_path}: config.json cannot be used: {type(error).__name__}: {error}") from error
    if hasattr(config, "encoder_config"):
        raise ValueError(
            f"{name_or_path} is a {config.model_type} checkpoint, not an encoder: publish.py makes it one"
        )
    if auto_class is AutoModel and config.model_type in ENCODER_HALVES:
        auto_class, config.is_encoder_decoder = encoder_class(config), False
    if auto_class is AutoModel and config.is_encoder_decoder:
        raise ValueError(f"{name_or_path} is a {config.model_type} encoder-decoder; expected an encoder")
    if layers is not None:
        cut_layers(config, layers, name_or_path)
    if dropout is not None:
        set_dropout(config, dropout)
    hub = hub_arguments(config_fields)
    try:
        model, loading = auto_class.from_pretrained(
            name_or_path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **hub,
        )
    except (OSError, ValueError):
        raise
    except Exception as error:  # as above, or weights of other sizes
        raise ValueError(f"{name_or_path}: the weights do not fit config.json: {error}") from error
    if auto_class is AutoModel and "decoder_input_ids" in inspect.signature(model.forward).parameters:
        raise ValueError(f"{name_or_path} is half of a {config.model_type} encoder-decoder; expected an encoder")
    refuse_missing_weights(model, loading["missing_keys"], name_or_path)
    return model


def cut_layers(config: PreTrainedConfig, layers: int, name: str) -> None:
    """Make a config one of the first `layers` layers, lists of a value per layer (`layer_types`) included.

    Without a layer, the embeddings of single tokens remain.

    Raises:
        ValueError: it has fewer, or is of an architecture whose depth is not one number.
    """
    depth = getattr(config, "num_hidden_layers", None)
    if depth is None:
        raise ValueError(f"layers: {name} is a {config.model_type} model, whose layers cannot be counted")
    if not 0 <= layers <= depth:
        raise ValueError(f"layers must be 0 to {depth} for {name}, got {layers}")
    for field, value in config.to_dict().items():
        if isinstance(value, list) and "layer" in field and len(value) == depth:
            setattr(config, field, value[:layers])
    try:
        config.num_hidden_layers = layers
        type(config).from_dict(config.to_dict())
    except Exception as error:  # the checks of an architecture's own config
        raise ValueError(f"layers: a {config.model_type} model cannot be cut to {layers} layers: {error}") from error


def set_dropout(config: PreTrainedConfig, rate: float) -> None:
    """Change every dropout rate in an encoder's config; raises ValueError for a rate that is none, or if it has none.

    Architectures have names of their own for it: hidden_dropout_prob, attn_pdrop, mlp_dropout, dropout_rate …
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: expected a rate of 0 or more and below 1, got {rate}")
    rates = []
    for field, value in config.to_dict().items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and ("dropout" in field or "pdrop" in field):
            rates.append(field)
    if not rates:
        raise ValueError(f"dropout: a {config.model_type} encoder has none in its config")
    for field in rates:
        setattr(config, field, rate)


def refuse_missing_weights(model: PreTrainedModel, missing: set[str], name: str) -> None:
    """Raise ValueError when weights of the encoder itself were not in the checkpoint; a new head's never are."""
    prefix = f"{model.base_model_prefix}." if model.base_model is not model else ""
    essential = sorted(key for key in missing if key.startswith(prefix) and "pooler." not in key)
    if essential:
        kind = model.config.model_type
        raise ValueError(f"{name} lacks {len(essential)} weights of a {kind}, such as {essential[0]}")


def position_limit(config: PreTrainedConfig) -> int:
    """Return how many tokens a model has positions for; `NO_LIMIT` without a table of positions."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        positions = getattr(config, "max_encoder_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return NO_LIMIT
    has_offset = config.model_type in OFFSET_POSITIONS or "roberta" in config.model_type
    padding = 1 if config.pad_token_id is None else config.pad_token_id
    return positions - padding - 1 if has_offset else positions


def freeze_unused(model: nn.Module, has_layers: bool = True) -> None:
    """Freeze BERT's pooler, which takes no part in our scores: it then needs no optimiser state and no all-reduce.

    Args:
        model: holds encoders.
        has_layers: they have transformer layers, which read the weights that these share.
    """
    unused = (".pooler.",) if has_layers else (".pooler.", *SHARED_BY_LAYERS)
    for name, parameter in model.named_parameters():
        if any(part in name for part in unused):
            parameter.requires_grad_(False)
