"""A published folder with two encoders, one of queries and one of documents, as sentence-transformers' Router.

config.json, tokenizer files   of the query encoder, with our fields; no weights
modules.json                   the Router
router_config.json             its routes: the modules of the two folders
query/, document/              each a whole published dual encoder, which loads by itself too
"""

import json
from pathlib import Path

from .layouts import FIELDS_KEY, SaveTokenizer, module_entry, without_paths, write_json, write_tokenizer


ROUTES = ("query", "document")


def write_router(
    folder: Path, encoder_config: dict, fields: dict, prompts: dict[str, str], is_cosine: bool, save: SaveTokenizer
) -> None:
    """Write what joins the two dual encoders that are in `query/` and `document/` already.

    Args:
        folder: of the pair.
        encoder_config: config of the query encoder's backbone.
        fields: the fields of our own config.
        prompts: words before a text of each side.
        is_cosine: both encoders make embeddings of unit length.
        save: saves the query encoder's tokenizer into a folder.
    """
    config = without_paths(encoder_config)
    write_json(folder / "config.json", {**config, FIELDS_KEY: {"model_type": "dual_encoder", **fields}})
    write_tokenizer(folder, save, fields["query_length"])
    write_json(folder / "modules.json", [module_entry(0, "Router")])
    types: dict[str, str] = {}
    structure: dict[str, list[str]] = {}
    for route in ROUTES:
        modules = json.loads((folder / route / "modules.json").read_text(encoding="utf-8"))
        structure[route] = [f"{route}/{module['path']}".rstrip("/") for module in modules]
        for place, module in zip(structure[route], modules, strict=True):
            types[place] = module["type"]
    parameters = {"default_route": "document", "allow_empty_key": True}
    write_json(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})
    settings = {"prompts": prompts if any(prompts.values()) else {}, "default_prompt_name": None}
    similarity = "cosine" if is_cosine else "dot"
    write_json(folder / "config_sentence_transformers.json", settings | {"similarity_fn_name": similarity})
