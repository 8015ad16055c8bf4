"""The first stage of an earlier run: whether its lists can be used again."""

import json
from dataclasses import asdict
from pathlib import Path

from m3se.run_scripts.retriever.options import BM25, QUERIES, START, TRAIN, RetrieverArguments
from m3se.trainers.data.readers.read_data import source_state
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.storage.atomic import write_json
from m3se.trainers.storage.checksums import find_damage
from m3se.trainers.storage.state import State


RECORD = "lists.json"
# Options that decide on nothing in the lists.
OF_LATER_STAGES = {"hours", "students", "rounds", "anyway", "require_better", "overwrite", "license", "language"}
OF_LATER_STAGES |= {"base_model", "measured_queries", "born_again", "layers"}


def description(arguments: RetrieverArguments) -> dict | None:
    """Describe what the lists are made of: options, data and models; None where one of these is elsewhere."""
    options = {name: value for name, value in vars(arguments).items() if name not in OF_LATER_STAGES}
    data, encoder = source_state(arguments.data), Path(encoder_path(arguments.encoder))
    if data is None or not encoder.exists():
        return None
    maker = arguments.synthetic_queries
    models = [encoder, *([maker] if maker and Path(maker).exists() else [])]
    return {"options": options, "state": asdict(State.read(models, ["m3se"]) | data)}


def has_lists(arguments: RetrieverArguments) -> bool:
    """Tell whether the output folder has the start model and all lists, whole, made of the same."""
    record = arguments.folder / RECORD
    made_of = description(arguments)
    if made_of is None or not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != made_of:
        return False
    parts = ["train", "dev", "test", *(["teacher"] if TRAIN in arguments.teacher else [])]
    parts += [] if arguments.layers is None else ["texts"]
    folders = [arguments.start, *map(arguments.lists, parts)]
    files = [arguments.folder / QUERIES]
    for name in {START, BM25} & set(arguments.teacher):
        files += [arguments.scores(name, part) for part in ("train", "dev", "test")]
    return all(map(Path.is_file, files)) and all(folder.is_dir() and not find_damage(folder) for folder in folders)


def record_lists(arguments: RetrieverArguments) -> None:
    """Write down what the lists were made of, after all of them."""
    made_of = description(arguments)
    if made_of is not None:
        write_json(arguments.folder / RECORD, made_of)
