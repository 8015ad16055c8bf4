"""Read back what was published for other libraries: a plain backbone, with our fields beside it."""

import json

from transformers import AutoConfig
from transformers.utils import cached_file


FIELDS_KEY = "m3se"  # in the backbone's config.json: the fields of our config that AutoModel has no use for


def read_json(name_or_path: str, filename: str) -> dict | None:
    """A JSON file of a folder or Hub repository, None if it is not there."""
    path = cached_file(name_or_path, filename, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def published_fields(name_or_path: str, model_type: str) -> dict | None:
    """Our config fields for a folder whose config.json is the backbone's, None if it is a checkpoint of our own.

    Looks for what `hub_cards.layouts` wrote, then for a dense sentence-transformers model (pooling, lengths).

    Raises:
        ValueError: a backbone without either, whose pooling nobody could know (wrap it with `from_encoder`), or one
            with modules that this class does not have.
    """
    config = read_json(name_or_path, "config.json")
    if config is None or config["model_type"] == model_type:
        return None
    if FIELDS_KEY in config:
        return {key: value for key, value in config[FIELDS_KEY].items() if key != "model_type"}
    modules = read_json(name_or_path, "modules.json")
    if modules is None or model_type != "dual_encoder":
        raise ValueError(
            f"{name_or_path} holds a bare {config['model_type']} model: use from_encoder and choose how it is used"
        )
    return sentence_transformers_fields(name_or_path, modules)


def sentence_transformers_fields(name_or_path: str, modules: list[dict]) -> dict:
    """`DualEncoderConfig` fields of a dense sentence-transformers model: Transformer, Pooling and nothing else.

    A final Normalize is refused: our scores are inner products, its were cosines.
    """
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds != ["Transformer", "Pooling"]:
        raise ValueError(f"{name_or_path} is made of {kinds}; a dot-product dual encoder is Transformer, Pooling")
    pooling = read_json(name_or_path, f"{modules[1]['path']}/config.json")
    mode = pooling.get("pooling_mode") or ("cls" if pooling.get("pooling_mode_cls_token") else "mean")
    length = (read_json(name_or_path, "sentence_bert_config.json") or {}).get("max_seq_length")
    length = length or AutoConfig.from_pretrained(name_or_path).max_position_embeddings
    return {"pooling": mode, "query_length": length, "document_length": length}
