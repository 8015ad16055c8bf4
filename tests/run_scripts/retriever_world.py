"""A small collection with judgments and without, and the options of make_retriever.py on it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.worlds import small_world
from tests.worlds.small_world import write_collection, write_encoder


SMALL = {
    "query_length": 8,
    "document_length": 16,
    "depth": 10,
    "held_out_depth": 8,
    "documents_per_query": 4,
    "test_queries": 20,
    "dev_queries": 20,
}
NAMESAKE = "testd102"  # a query, and a document with its id and words


def write_world(root: Path) -> Path:
    """The collection with judgments and without, and an encoder. One query has the id and the words of a document."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_world, "QUERIES", {"train": 72, "dev": 20, "test": 20})
        write_collection(root / "data", documents=120)
    queries = [json.loads(line) for line in (root / "data" / "queries.jsonl").read_text().splitlines()]
    words = next(query["text"] for query in queries if query["_id"] == NAMESAKE)
    with open(root / "data" / "corpus.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"_id": NAMESAKE, "text": words}) + "\n")
    write_encoder(root / "encoder")
    without = shutil.copytree(root / "data", root / "without")
    shutil.rmtree(without / "qrels")
    return root


def options(world: Path, output: str = "out", **changes) -> dict:
    places = {"data": str(world / "data"), "encoder": str(world / "encoder"), "output": str(world / output)}
    return places | SMALL | {"cache_dir": str(world / "cache")} | changes


def write(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
