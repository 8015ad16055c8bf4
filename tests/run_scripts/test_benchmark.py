import json

import pytest

from run_scripts.benchmark import ROWS, main, make_parser
from run_scripts.benchmarks import inference, steps
from run_scripts.cli import parse
from tests.run_scripts.small_world import write_collection, write_encoder
from trainers.errors import InputError


# Two others start Python anew, and one is a longer "de_step".
IN_PROCESS = [name for name in ROWS if name not in ("import", "help", "de_step_20")]
TINY = {
    "rounds": 1,
    "memory": "false",
    "queries": 2,
    "pairs": 4,
    "documents": 5,
    "reranked": 5,
    "searched": 300,
    "search_queries": 3,
    "query_length": 8,
    "document_length": 16,
}


def benchmark(*argv):
    main(*parse(make_parser(), [*map(str, argv)]))


@pytest.fixture
def one_setting(monkeypatch):
    """The peers have no choice, which would take most of the time."""
    for module, choice in ((steps, "ATTENTION"), (steps, "MINI_BATCHES"), (inference, "BATCH_SIZES")):
        monkeypatch.setattr(module, choice, getattr(module, choice)[:1])


def test_every_row_is_measured_on_both_sides(tmp_path, one_setting):
    world = {
        "data": write_collection(tmp_path / "words", documents=120),
        "encoder": write_encoder(tmp_path / "encoder"),
        "cache_dir": tmp_path / "cache",
        "output": tmp_path / "benchmark",
    }
    options = [part for name, value in (TINY | world).items() for part in (f"--{name}", value)]
    benchmark("--rows", *IN_PROCESS, *options)
    results = json.loads((tmp_path / "benchmark" / "results.json").read_text())
    assert len(results["rows"]) == len(IN_PROCESS)
    for row in results["rows"]:
        assert len(row["our_seconds"]) == len(row["peer_seconds"]) == 1
        assert row["setting"] in row["settings"]
    amounts = {row["work"]: row["amount"] for row in results["rows"]}
    assert amounts["distillation step, DE, K = 8"] == 16
    assert amounts["exact top 100 of 300 × 384, 3 queries"] == 3
    lines = (tmp_path / "benchmark" / "table.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("|")]) == len(IN_PROCESS) + 2


def test_an_unknown_row_is_named():
    with pytest.raises(InputError, match="rows: expected some of de_step, .*, got speed"):
        benchmark("--rows", "speed")
