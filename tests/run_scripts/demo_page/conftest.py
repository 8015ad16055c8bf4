"""The tiny models and the collection of words that the page compares."""

import json
from pathlib import Path

import pytest

from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.demo import make_parser
from tests.worlds import words as tiny


HOSTILE = '<img src=x onerror="document.title=1"> sum **of** <b>x</b>'


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Folders of models and data; the collection has a document that looks like markup."""
    folder = tmp_path_factory.mktemp("page")
    world = {"start": tiny.save_dual_encoder(folder / "start"), "colbert": tiny.save_colbert(folder / "colbert")}
    world |= {"student": tiny.save_dual_encoder(folder / "student", seed=7), "data": tiny.write_beir(folder / "words")}
    world |= {"teacher": tiny.save_cross_encoder(folder / "teacher"), "cache": str(folder / "cache")}
    with open(Path(world["data"]) / "corpus.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"_id": "d8", "title": "", "text": HOSTILE}) + "\n")
    return world


@pytest.fixture(scope="session")
def arguments(world):
    """Return a function that parses options of demo.py; those of the world come first."""

    def make(*words):
        options = ["--data", world["data"], "--cache_dir", world["cache"], "--dtype", "float32"]
        (parsed,) = parse(make_parser(), [*options, *map(str, words)])
        return parsed

    return make
