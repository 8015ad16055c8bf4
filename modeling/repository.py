"""Files of a model's folder or Hub repository."""

import json

from torch import Tensor
from transformers.modeling_utils import load_state_dict
from transformers.utils import cached_file


# Keyword arguments of `from_pretrained` that say where a repository is read from, and as whom.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the second is read without executing what it may hold


def hub_arguments(keywords: dict) -> dict:
    """Select the Hub arguments (revision, token, cache_dir …) from the keywords of `from_pretrained`."""
    return {name: keywords[name] for name in HUB_ARGUMENTS if keywords.get(name) is not None}


def split_keywords(keywords: dict) -> tuple[dict, dict]:
    """Split keywords into the Hub arguments and all others."""
    hub = hub_arguments(keywords)
    return hub, {name: value for name, value in keywords.items() if name not in hub}


def refuse_others(name_or_path: str, keywords: dict) -> None:
    """Raise TypeError for keyword arguments that a published folder would silently leave unused."""
    if unused := sorted(keywords.keys() - set(HUB_ARGUMENTS)):
        raise TypeError(
            f"{name_or_path} is read through its backbone, in float32: {', '.join(unused)} cannot be given"
        )


def read_json(name_or_path: str, filename: str, **hub) -> dict | list | None:
    """Read a JSON file of a folder or Hub repository, None if it is not there."""
    path = cached_file(name_or_path, filename, _raise_exceptions_for_missing_entries=False, **hub)
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def read_weights(name_or_path: str, folder: str = "", **hub) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint's one weight file, float32; raises ValueError when there is none."""
    for name in WEIGHTS:
        filename = f"{folder}/{name}" if folder else name
        path = cached_file(name_or_path, filename, _raise_exceptions_for_missing_entries=False, **hub)
        if path is not None:
            return {key: tensor.float() for key, tensor in load_state_dict(path).items()}
    raise ValueError(f"{name_or_path} has neither {' nor '.join(WEIGHTS)}")
