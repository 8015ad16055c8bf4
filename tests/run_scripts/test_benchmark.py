import json
import re

import pytest

from m3se.run_scripts.benchmark import GROWTH, ROWS, main, make_parser
from m3se.run_scripts.benchmarks import growth, inference, measuring, our_backends, steps
from m3se.run_scripts.cli.app import parse
from m3se.trainers.errors import InputError
from tests.worlds.small_world import write_collection, write_encoder


pytestmark = pytest.mark.slow
# Two others start Python anew, one is a longer "de_step", and those in int8 have no peer that is installed here.
WITH_TORCH = [name for name in ROWS if name not in ("import", "help", "de_step_20") and not name.endswith("_int8")]
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
    "peers": "torch",
}


def benchmark(*argv):
    main(*parse(make_parser(), [*map(str, argv)]))


@pytest.fixture
def one_setting(monkeypatch):
    """Both sides have little choice, which would take most of the time."""
    for module, choice in ((steps, "ATTENTION"), (steps, "MINI_BATCHES"), (inference, "MAXSIM_ELEMENTS")):
        monkeypatch.setattr(module, choice, getattr(module, choice)[:1])
    monkeypatch.setattr(our_backends, "PACKAGES", ("torch",))
    monkeypatch.setattr(measuring, "LONG", 0)  # seconds
    monkeypatch.setattr(inference, "LONG", 8)  # tokens, of which each document has half


@pytest.fixture
def options(tmp_path):
    world = {
        "data": write_collection(tmp_path / "words", documents=120),
        "encoder": write_encoder(tmp_path / "encoder"),
        "cache_dir": tmp_path / "cache",
        "output": tmp_path / "benchmark",
    }
    return [part for name, value in (TINY | world).items() for part in (f"--{name}", value)]


@pytest.mark.long
def test_every_row_is_measured_on_both_sides(tmp_path, options, one_setting):
    benchmark("--rows", *WITH_TORCH, *options)
    results = json.loads((tmp_path / "benchmark" / "results.json").read_text())
    assert len(results["rows"]) == len(WITH_TORCH)
    for row in results["rows"]:
        assert len(row["our_seconds"]) == len(row["peer_seconds"]) == 1
        assert row["setting"] in (row["settings"] or [row["setting"]])
    amounts = {row["work"]: row["amount"] for row in results["rows"]}
    assert amounts["distillation step, DE, K = 8"] == 16
    assert amounts["exact top 100 of 300 × 384, 3 queries"] == 3
    (query,) = (row for row in results["rows"] if row["work"] == "one query of 8 tokens at a time")
    for side in ("our", "peer"):  # milliseconds of one query, seconds of all
        half = float(re.search(r"p50 ([\d.]+) ms", query[f"{side}_remark"]).group(1))
        assert 0 < half < 1000 * query[f"{side}_seconds"][0]
    lines = (tmp_path / "benchmark" / "table.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("|")]) == len(WITH_TORCH) + 2


@pytest.mark.linux
@pytest.mark.long
def test_growth_is_measured_at_every_size_and_drawn(tmp_path, options, monkeypatch):
    for name, values in (("DOCUMENTS_PER_QUERY", (2, 4)), ("LENGTHS", (8, 16)), ("START_METHOD", "fork")):
        monkeypatch.setattr(growth, name, values)
    benchmark("--growth", *GROWTH, *options, "--searched", 900)
    found = json.loads((tmp_path / "benchmark" / "growth.json").read_text())["growth"]
    sizes = {name: [point["size"] for point in points] for name, points in found.items()}
    assert sizes == {
        "documents_per_query": [2, 4],
        "length": [8, 16],
        "processes": [1, 2],
        "searched": [9, 90, 900],
    }
    assert all(len(point["seconds"]) == 1 for points in found.values() for point in points)
    assert [point["amount"] for point in found["documents_per_query"]] == [16, 16]
    short, long = (point["flop"] for point in found["length"])
    assert short < long
    page = (tmp_path / "benchmark" / "growth.md").read_text().splitlines()
    assert len([line for line in page if line.startswith("|")]) == 2 + 9
    assert (tmp_path / "benchmark" / "growth.png").is_file()


def test_a_rate_and_a_share_are_those_of_the_median_round():
    point = growth.Point(8, [2.0, 9.0, 4.0], amount=20, unit="documents/s", flop=600)
    assert (point.rate, point.share(1000)) == (5.0, 0.15)


@pytest.mark.parametrize("option, first", [("rows", "de_step"), ("growth", "documents_per_query")])
def test_an_unknown_row_or_curve_is_named(option, first):
    with pytest.raises(InputError, match=f"{option}: expected some of {first}, .*, got speed"):
        benchmark(f"--{option}", "speed")


def test_one_lucky_run_does_not_choose_a_setting(monkeypatch):
    times = {"lucky": [1, 0.1, 3, 3], "steady": [1, 2, 2, 2], "slow": [6]}  # seconds, the first to warm up
    monkeypatch.setattr(measuring, "seconds", lambda run: run.pop(0))
    chosen, medians = measuring.fastest({name: lambda name=name: list(times[name]) for name in times})
    assert chosen == "steady" and medians == {"lucky": 3, "steady": 2, "slow": 6}
