"""Recipes are flags written down: `--recipe file.yaml` stands for its `key: value` lines as `--key value`."""

import json
import re
from itertools import chain
from pathlib import Path

import yaml

from m3se.trainers.errors import InputError


OPTION = re.compile(r"[A-Za-z]\w*")


def expand_recipe(argv: list[str]) -> list[str]:
    """Replace a leading `--recipe FILE` by the file's flags; flags given after it win, as argparse keeps the last.

    A list becomes several values, a mapping (such as `loss_args`) its JSON.

    Raises:
        InputError: the file is missing, is not YAML, or is not a mapping of options to values.
    """
    if argv[:1] != ["--recipe"]:
        if any(word.partition("=")[0] == "--recipe" for word in argv):
            raise InputError("--recipe FILE must come first, before the options that override it")
        return argv
    if len(argv) < 2:
        raise InputError("--recipe: expected a YAML file")
    flags = []
    for key, value in read_recipe(Path(argv[1])).items():
        try:
            flags += [f"--{key}", *map(as_flag, value if isinstance(value, list) else [value])]
        except (TypeError, ValueError, RecursionError):
            raise InputError(f"{argv[1]}: {key}: expected numbers, texts, lists or mappings of them") from None
    return flags + argv[2:]


def join_repeated(argv: list[str], lists: set[str]) -> list[str]:
    """Join `--model a --model b` to `--model a b`, for the options `lists`, which take several values.

    Argparse would forget the first. Its action "extend" would join them too, but would also add to the list of a
    recipe, where flags after the recipe must win.
    """
    current: list[str] = []
    parts, options = [current], {}  # an option with its values each
    for word in argv:
        name, equals, value = word.partition("=")
        if name in lists:
            if name not in options:
                options[name] = [name]
                parts.append(options[name])
            current = options[name]
            current += [value] if equals else []
        elif word.startswith("--"):
            current = [word]
            parts.append(current)
        else:
            current.append(word)
    return list(chain.from_iterable(parts))


def read_recipe(path: Path) -> dict:
    """Read the mapping of a recipe file.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such recipe")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that there is not is a ValueError
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict) or not all(isinstance(key, str) and OPTION.fullmatch(key) for key in recipe):
        raise InputError(f"{path}: expected lines `option: value`")
    if empty := [key for key, value in recipe.items() if value is None]:
        raise InputError(f"{path}: {empty[0]} has no value; leave the line out for the default")
    return recipe


def as_flag(value) -> str:
    """Write a YAML value as a command line does. Raises TypeError or ValueError for one that it cannot hold."""
    if value is None or isinstance(value, (list, set, bytes)):
        raise TypeError(type(value).__name__)
    return json.dumps(value) if isinstance(value, dict) else str(value)
