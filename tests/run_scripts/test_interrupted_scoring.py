"""Scoring that is killed, interrupted, run twice at once, on two processes or on a full disk."""

import pytest

from tests.run_scripts.interrupted_scoring import disturb
from tests.worlds.teachers import save_cross_encoder, tiny_lists


pytestmark = [pytest.mark.linux, pytest.mark.slow]


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    """Disturb runs of the script; return what happened to each."""
    folder = tmp_path_factory.mktemp("disturbed")
    save_cross_encoder(folder / "teacher")
    tiny_lists(queries=60, documents=8).save(folder / "lists")
    return disturb(folder, kills=3)


def expect_as_undisturbed(disturbed, finished):
    assert finished["status"] == 0, finished["lines"]
    assert finished["files"] == disturbed["undisturbed"]["files"]
    assert "rows.arrow" in finished["files"]


def test_a_run_killed_at_any_moment_ends_with_the_bytes_of_an_undisturbed_one(disturbed):
    assert disturbed["undisturbed"]["status"] == 0
    assert len(disturbed["killed"]) == 3
    for killed in disturbed["killed"]:
        assert killed["first"]["status"] == -9
        assert killed["first"]["files"] in ({}, disturbed["undisturbed"]["files"])
        expect_as_undisturbed(disturbed, killed["second"])
        assert killed["second"]["shards"] == disturbed["undisturbed"]["shards"]  # none was computed twice
    assert sum(0 < killed["first"]["shards"] < killed["second"]["shards"] for killed in disturbed["killed"]) >= 2


@pytest.mark.parametrize(("signal", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_stops_the_work_and_says_how_to_go_on(disturbed, signal, status):
    first, second = disturbed[signal]["first"], disturbed[signal]["second"]
    assert first["status"] == status
    assert "run the same again to go on" in first["lines"][-1]
    assert not any("Traceback" in line for line in first["lines"])
    assert first["files"] == {} and 2 <= first["shards"] < second["shards"]
    assert second["shards"] == disturbed["undisturbed"]["shards"]
    expect_as_undisturbed(disturbed, second)


def test_two_runs_at_once_share_a_cache(disturbed):
    for finished in disturbed["sharing"]:
        expect_as_undisturbed(disturbed, finished)


def test_a_rank_whose_neighbour_was_killed_stops_with_a_message(disturbed):
    first, second = disturbed["rank"]["first"], disturbed["rank"]["second"]
    assert first["status"] == 2
    assert "another process of this launch ended early" in first["lines"][-1]
    assert first["files"] == {}
    expect_as_undisturbed(disturbed, second)


def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_complete(disturbed):
    for name, part in (("no space for a shard", "a shard could not be"), ("no space for the output", "could not be")):
        assert disturbed[name]["status"] == 2
        assert f"{part} written" in disturbed[name]["lines"][-1]
        assert not any("Traceback" in line for line in disturbed[name]["lines"])
        assert disturbed[name]["files"] == {}
    assert disturbed["no space for a shard"]["shards"] == 0
    expect_as_undisturbed(disturbed, disturbed["space again"])
    left = [name for name in disturbed["left"] if name.startswith(".") and "killed" not in name]
    assert not left  # kill -9 may leave a temporary name behind, a full disk must not


def test_two_processes_of_a_launch_write_what_one_writes(disturbed):
    first, second = disturbed["launch"]
    for finished in (first, second):
        expect_as_undisturbed(disturbed, finished)
    # 420 different pairs are 26 chunks of 16 and one of 4: the first process has every other one and the last.
    lines = "\n".join(first["lines"])
    assert "212 pairs scored, the rest left to 1 others" in lines
    assert "0 pairs scored, 420 reused" in lines
    assert not any("pairs scored" in line for line in second["lines"])
