"""Reading of models that were published for other libraries: a plain backbone, with our fields beside it."""

import logging

from transformers import AutoConfig, AutoTokenizer

from .encoders import position_limit
from .repository import read_json


logger = logging.getLogger(__name__)

FIELDS_KEY = "m3se"  # in the backbone's config.json: the fields of our config that AutoModel has no use for
# Names of sentence-transformers' prompts for each of our fields, the first that has one.
PROMPT_NAMES = {"query_prompt": ("query",), "document_prompt": ("document", "passage", "corpus")}


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


def own_fields(name_or_path: str, fields: dict, model_type: str) -> dict:
    """Return the fields of our config beside a backbone; raises ValueError when they are those of another class."""
    fields = dict(fields)
    published_type = fields.pop("model_type")
    if published_type != model_type:
        raise ValueError(f"{name_or_path} was published as a {published_type}, not as a {model_type}")
    return fields


def sentence_transformers_fields(name_or_path: str, modules: list[dict], **hub) -> dict:
    """Return `DualEncoderConfig` fields of a dense sentence-transformers model: Transformer, Pooling, nothing else.

    A final Normalize is refused: our scores are inner products, its were cosines.
    """
    kinds = module_kinds(modules)
    if kinds != ["Transformer", "Pooling"]:
        raise ValueError(
            f"{name_or_path} is made of {kinds}; a dot-product dual encoder is Transformer, Pooling "
            "(from_encoder takes such a model as a start)"
        )
    length = (read_json(name_or_path, "sentence_bert_config.json", **hub) or {}).get("max_seq_length")
    if length is None:
        positions = position_limit(AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **hub))
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **hub)
        length = min(positions, tokenizer.model_max_length)
    pooling = read_pooling(name_or_path, modules[1]["path"], **hub)
    return {"pooling": pooling, "query_length": length, "document_length": length}


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
    """Read the pooling of a sentence-transformers model, "cls" or "mean"; raises ValueError for any other."""
    config = read_json(name_or_path, f"{folder}/config.json", **hub) or {}
    switched_on = []
    for name, value in config.items():
        if "pooling_mode_" in name and value is True:
            switched_on.append(name.removeprefix("pooling_mode_"))
    mode = config.get("pooling_mode") or " + ".join(switched_on)
    names = {"cls_token": "cls", "mean_tokens": "mean", "cls": "cls", "mean": "mean"}
    if not isinstance(mode, str) or mode not in names:
        raise ValueError(f"{name_or_path} pools by {mode or 'nothing known'}; expected cls or mean")
    return names[mode]


def starting_pooling(name_or_path: str, **hub) -> dict:
    """Return {"pooling": …} of a sentence-transformers model or published dual encoder; {} of a bare encoder."""
    config = read_json(name_or_path, "config.json", **hub) or {}
    if config.get(FIELDS_KEY, {}).get("model_type") == "dual_encoder":
        return {"pooling": config[FIELDS_KEY]["pooling"]}
    for module in read_json(name_or_path, "modules.json", **hub) or []:
        if module["type"].endswith(".Pooling"):
            return {"pooling": read_pooling(name_or_path, module["path"], **hub)}
    return {}
