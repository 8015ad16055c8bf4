"""Reading of models that were published for other libraries: a plain backbone, with our fields beside it."""

import logging
import re
from collections.abc import Collection

import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from .encoders import position_limit
from .repository import read_json, read_weights


logger = logging.getLogger(__name__)

FIELDS_KEY = "m3se"  # in the backbone's config.json: the fields of our config that AutoModel has no use for
# Names of sentence-transformers' prompts for each of our fields, the first that has one.
PROMPT_NAMES = {"query_prompt": ("query",), "document_prompt": ("document", "passage", "corpus")}
HEAD_FIELDS = ("pooling", "projection_size", "normalize", "scale")  # of a dual encoder: what follows the encoder
QUERY_TOWER, DOCUMENT_TOWER = "query", "document"  # folders in that of a published pair of encoders
DENSE_MODEL = re.compile("Transformer Pooling( Dense)*( Normalize)?")  # sentence-transformers' modules that we have


def published_fields(name_or_path: str, model_type: str, **hub) -> dict | None:
    """Return our config fields for a folder whose config.json is the backbone's, None for a checkpoint of our own.

    They are those that `hub_cards.layouts` wrote, or those of a dense sentence-transformers model (pooling, lengths).

    Raises:
        ValueError: another kind of model; a backbone without either, whose pooling nobody could know (wrap it with
            `from_encoder`); or one with modules that this class does not have.
    """
    config = read_json(name_or_path, "config.json", **hub)
    if config is None or config.get("model_type") == model_type:
        return None
    if FIELDS_KEY in config:
        return own_fields(name_or_path, config[FIELDS_KEY], model_type)
    modules = read_json(name_or_path, "modules.json", **hub)
    if modules is None or model_type != "dual_encoder":
        raise ValueError(
            f"{name_or_path} holds a bare {config.get('model_type')} model: use from_encoder and choose how it is used"
        )
    return sentence_transformers_fields(name_or_path, modules, **hub)


def query_arguments(name_or_path: str, **hub) -> dict:
    """Return the Hub arguments that lead to the query encoder of a published pair; `hub` as it is for any other."""
    config = read_json(name_or_path, "config.json", **hub) or {}
    paired = config.get(FIELDS_KEY, {}).get("document_model") is not None and "subfolder" not in hub
    is_pair = paired and read_json(name_or_path, f"{QUERY_TOWER}/config.json", **hub) is not None
    return hub | {"subfolder": QUERY_TOWER} if is_pair else hub


def own_fields(name_or_path: str, fields: dict, model_type: str) -> dict:
    """Return the fields of our config beside a backbone; raises ValueError when they are those of another class."""
    fields = dict(fields)
    published_type = fields.pop("model_type")
    if published_type != model_type:
        raise ValueError(f"{name_or_path} was published as a {published_type}, not as a {model_type}")
    return fields


def sentence_transformers_fields(name_or_path: str, modules: list[dict], **hub) -> dict:
    """Return `DualEncoderConfig` fields of a dense sentence-transformers model.

    The scale is 1, so that scores are what sentence-transformers itself computes, cosines or inner products.
    """
    length = (read_json(name_or_path, "sentence_bert_config.json", **hub) or {}).get("max_seq_length")
    if length is None:
        positions = position_limit(AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **hub))
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **hub)
        length = min(positions, tokenizer.model_max_length)
    fields = head_fields(name_or_path, modules, **hub)
    return fields | {"query_length": length, "document_length": length, "scale": 1.0}


def head_fields(name_or_path: str, modules: list[dict], chosen: Collection[str] = (), **hub) -> dict:
    """Return the `DualEncoderConfig` fields of what follows the encoder in a sentence-transformers model.

    Its vectors count as normalised too where it compares them by cosine, as it does unless it says otherwise.

    Args:
        name_or_path: Hub id or folder.
        modules: its modules.json.
        chosen: fields that are not asked for, and may be what we do not have.
        hub: arguments of the Hub.

    Raises:
        ValueError: modules, a pooling, an activation or a similarity that we do not have.
    """
    kinds, fields = module_kinds(modules), {}
    if not DENSE_MODEL.fullmatch(" ".join(kinds)):
        raise ValueError(
            f"{name_or_path} is made of {', '.join(kinds)}; expected Transformer, Pooling, perhaps Dense, perhaps "
            "Normalize (from_encoder with layers takes no more than the pooling)"
        )
    if "pooling" not in chosen:
        fields["pooling"] = read_pooling(name_or_path, modules[1]["path"], **hub)
    if "Dense" in kinds and "projection_size" not in chosen:
        fields["projection_size"] = len(read_projection(name_or_path, **hub)["weight"])
    if "normalize" not in chosen:
        fields["normalize"] = kinds[-1] == "Normalize" or compares_by_cosine(name_or_path, **hub)
    return fields


def compares_by_cosine(name_or_path: str, **hub) -> bool:
    """Tell cosines from inner products in a sentence-transformers model; raises ValueError for another similarity."""
    settings = read_json(name_or_path, "config_sentence_transformers.json", **hub) or {}
    similarity = settings.get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise ValueError(f"{name_or_path} compares by {similarity}; expected cosine or dot")
    return similarity == "cosine"


def read_projection(name_or_path: str, **hub) -> dict[str, Tensor]:
    """Read all Dense modules of a sentence-transformers or PyLate model as one linear layer: weight, perhaps bias.

    Raises:
        ValueError: one of them is not linear.
    """
    layers = []
    for module in read_json(name_or_path, "modules.json", **hub):
        if module["type"].endswith(".Dense"):
            layers.append(read_dense(name_or_path, module["path"], **hub))
    return chain(layers)


def read_dense(name_or_path: str, folder: str, **hub) -> dict[str, Tensor]:
    """Read weight and bias of a Dense module; its input added to its output (`use_residual`) is linear too."""
    config = read_json(name_or_path, f"{folder}/config.json", **hub) or {}
    activation = config.get("activation_function") or "Tanh"  # sentence-transformers' default
    if not activation.endswith("Identity"):
        raise ValueError(f"{name_or_path}: {folder} is not linear ({activation}), ours is")
    weights = read_weights(name_or_path, folder, **hub)
    weight = weights["linear.weight"]
    if config.get("use_residual"):
        weight = weight + weights.get("residual.weight", torch.eye(len(weight)))
    return {"weight": weight} | ({"bias": weights["linear.bias"]} if "linear.bias" in weights else {})


def chain(layers: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Make one linear layer that does the same as `layers` one after the other."""
    first, *next_layers = layers
    for layer in next_layers:
        bias = [layer["weight"] @ first["bias"]] if "bias" in first else []
        bias += [layer["bias"]] if "bias" in layer else []
        first = {"weight": layer["weight"] @ first["weight"]} | ({"bias": sum(bias)} if bias else {})
    return first


def module_kinds(modules: list[dict]) -> list[str]:
    """Return the class names of a sentence-transformers model's modules."""
    return [module["type"].rsplit(".", 1)[-1] for module in modules]


def starting_prompts(name_or_path: str, **hub) -> dict:
    """Return {"query_prompt": …, "document_prompt": …} of a sentence-transformers model or published one; {} without.

    Prompts for anything else than queries and documents are left out, with a warning when there are no others.
    """
    config = read_json(name_or_path, "config.json", **hub) or {}
    if FIELDS_KEY in config:
        fields = config[FIELDS_KEY]
        return {field: fields[field] for field in PROMPT_NAMES if field in fields}
    settings = read_json(name_or_path, "config_sentence_transformers.json", **hub) or {}
    prompts = {name: prompt for name, prompt in (settings.get("prompts") or {}).items() if prompt}
    fields = {}
    for field, names in PROMPT_NAMES.items():
        if name := next(filter(prompts.__contains__, names), None):
            fields[field] = prompts[name]
    if prompts and not fields:
        logger.warning(
            "%s has prompts for neither queries nor documents, which are left out: %s; "
            "query_prompt and document_prompt choose what is put before a text",
            name_or_path,
            prompts,
        )
    return fields


def read_pooling(name_or_path: str, folder: str, **hub) -> str:
    """Read the pooling of a sentence-transformers model: cls, mean or last; raises ValueError for any other."""
    config = read_json(name_or_path, f"{folder}/config.json", **hub) or {}
    switched_on = []
    for name, value in config.items():
        if "pooling_mode_" in name and value is True:
            switched_on.append(name.removeprefix("pooling_mode_"))
    mode = config.get("pooling_mode") or " + ".join(switched_on)
    names = {"cls_token": "cls", "mean_tokens": "mean", "cls": "cls", "mean": "mean", "lasttoken": "last"}
    if not isinstance(mode, str) or mode not in names:
        raise ValueError(f"{name_or_path} pools by {mode or 'nothing known'}; expected cls, mean or lasttoken")
    return names[mode]


def starting_fields(name_or_path: str, whole: bool, chosen: Collection[str], **hub) -> dict:
    """Return the `DualEncoderConfig` fields that training goes on with.

    They describe the layers after the encoder of a sentence-transformers model or published dual encoder; {} of a bare
    encoder.

    Args:
        name_or_path: Hub id or folder.
        whole: False for the first layers only, of which the pooling alone makes sense.
        chosen: fields that the user has chosen. A scale goes with the normalisation that it was chosen for.
        hub: arguments of the Hub.

    Raises:
        ValueError: as `head_fields`.
    """
    own = (read_json(name_or_path, "config.json", **hub) or {}).get(FIELDS_KEY, {})
    if own.get("model_type") == "dual_encoder":
        names = set(HEAD_FIELDS if whole else ["pooling"]) & own.keys() - set(chosen)
        return {name: own[name] for name in names if name != "scale" or "normalize" not in chosen}
    modules = read_json(name_or_path, "modules.json", **hub) or []
    if modules and whole:
        return head_fields(name_or_path, modules, chosen, **hub)
    for module in modules:
        if module["type"].endswith(".Pooling") and "pooling" not in chosen:
            return {"pooling": read_pooling(name_or_path, module["path"], **hub)}
    return {}
