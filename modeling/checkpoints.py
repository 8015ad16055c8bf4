"""Read back what was published for other libraries: a plain backbone, with our fields beside it."""

import json
import logging

from transformers import AutoConfig, AutoTokenizer
from transformers.utils import cached_file


logger = logging.getLogger(__name__)

FIELDS_KEY = "m3se"  # in the backbone's config.json: the fields of our config that AutoModel has no use for
# Keyword arguments of `from_pretrained` that say where a repository is read from, and as whom.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def hub_arguments(keywords: dict) -> dict:
    """Those of a `from_pretrained` call's keyword arguments that every file of the repository is read with."""
    return {name: keywords[name] for name in HUB_ARGUMENTS if keywords.get(name) is not None}


def refuse_others(name_or_path: str, keywords: dict) -> None:
    """Raise TypeError for keyword arguments that a published folder would silently leave unused."""
    if others := sorted(keywords.keys() - set(HUB_ARGUMENTS)):
        raise TypeError(
            f"{name_or_path} is read through its backbone, in float32: {', '.join(others)} cannot be given"
        )


def read_json(name_or_path: str, filename: str, **hub) -> dict | None:
    """A JSON file of a folder or Hub repository, None if it is not there."""
    path = cached_file(name_or_path, filename, _raise_exceptions_for_missing_entries=False, **hub)
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def published_fields(name_or_path: str, model_type: str, **hub) -> dict | None:
    """Our config fields for a folder whose config.json is the backbone's, None if it is a checkpoint of our own.

    Looks for what `hub_cards.layouts` wrote, then for a dense sentence-transformers model (pooling, lengths).

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
    """The fields of our config beside a backbone; raises ValueError when they are those of another class."""
    if fields["model_type"] != model_type:
        raise ValueError(f"{name_or_path} was published as a {fields['model_type']}, not as a {model_type}")
    return {key: value for key, value in fields.items() if key != "model_type"}


def sentence_transformers_fields(name_or_path: str, modules: list[dict], **hub) -> dict:
    """`DualEncoderConfig` fields of a dense sentence-transformers model: Transformer, Pooling and nothing else.

    A final Normalize is refused: our scores are inner products, its were cosines.
    """
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds != ["Transformer", "Pooling"]:
        raise ValueError(
            f"{name_or_path} is made of {kinds}; a dot-product dual encoder is Transformer, Pooling "
            "(from_encoder takes such a model as a start)"
        )
    length = (read_json(name_or_path, "sentence_bert_config.json", **hub) or {}).get("max_seq_length")
    if length is None:  # RoBERTa has two positions more than it can use, which only its tokenizer knows
        positions = AutoConfig.from_pretrained(name_or_path, **hub).max_position_embeddings
        length = min(positions, AutoTokenizer.from_pretrained(name_or_path, **hub).model_max_length)
    tell_prompts(name_or_path, read_json(name_or_path, "config_sentence_transformers.json", **hub) or {})
    pooling = read_pooling(name_or_path, modules[1]["path"], **hub)
    return {"pooling": pooling, "query_length": length, "document_length": length}


def tell_prompts(name_or_path: str, settings: dict) -> None:
    """Warn of the words that a sentence-transformers model puts before its texts, and ours does not."""
    if prompts := {kind: prompt for kind, prompt in (settings.get("prompts") or {}).items() if prompt}:
        logger.warning("%s was trained on texts that begin with %s: put that before yours", name_or_path, prompts)


def read_pooling(name_or_path: str, folder: str, **hub) -> str:
    """Pooling of a sentence-transformers model, "cls" or "mean"; raises ValueError for any other."""
    config = read_json(name_or_path, f"{folder}/config.json", **hub) or {}
    flags = [
        name.removeprefix("pooling_mode_") for name, on in config.items() if on is True and "pooling_mode_" in name
    ]
    mode = config.get("pooling_mode") or " + ".join(flags)
    names = {"cls_token": "cls", "mean_tokens": "mean", "cls": "cls", "mean": "mean"}
    if not isinstance(mode, str) or mode not in names:
        raise ValueError(f"{name_or_path} pools by {mode or 'nothing known'}; expected cls or mean")
    return names[mode]


def starting_pooling(name_or_path: str, **hub) -> dict:
    """{"pooling": …} of a sentence-transformers model or published dual encoder; {} of a bare encoder."""
    config = read_json(name_or_path, "config.json", **hub) or {}
    if config.get(FIELDS_KEY, {}).get("model_type") == "dual_encoder":
        return {"pooling": config[FIELDS_KEY]["pooling"]}
    modules = read_json(name_or_path, "modules.json", **hub) or []
    folders = [module["path"] for module in modules if module["type"].endswith(".Pooling")]
    return {"pooling": read_pooling(name_or_path, folders[0], **hub)} if folders else {}
