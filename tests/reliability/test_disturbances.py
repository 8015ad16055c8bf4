"""Whatever ends a stage, running it again ends with the bytes of an undisturbed run, and what ended it is one line."""

import re
import socket

import pytest

from m3se.run_scripts.cli import signals
from tests.reliability.disturbances import FULL, KILLS, READ_ONLY, disturb


pytestmark = [pytest.mark.linux, pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    return disturb(tmp_path_factory.mktemp("disturbed"))


def one_line_of(finished):
    """The last line of output, which is all that may be said of the end."""
    assert not any("Traceback" in line for line in finished["lines"]), finished["lines"]
    said = [re.sub(r"\s*\d+%\|.*?\]", "", line) for line in finished["lines"]]  # without progress bars
    return [line for line in said if line][-1]


@pytest.mark.parametrize("stage", KILLS)
def test_a_stage_killed_at_any_moment_ends_with_the_bytes_of_an_undisturbed_one(disturbed, stage):
    result = disturbed["kills"][stage]
    assert len(result["kills"]) == KILLS[stage] and result["files"] >= 3
    assert result["wrong"] == []


def test_ctrl_c_stops_a_training_and_says_how_to_go_on(disturbed):
    result = disturbed["SIGINT"]
    assert result["first"]["status"] == 130
    assert one_line_of(result["first"]) == "stopped; run the same again to go on"
    assert result["second"]["status"] == 0
    assert any("resuming from" in line for line in result["second"]["lines"])
    assert result["artefacts"] == disturbed["trained"]


def test_a_signal_ends_a_process_that_waits_inside_a_library(disturbed):
    result = disturbed["SIGTERM in a library"]
    assert result["status"] == 143  # the library would have gone on for many minutes
    assert signals.GRACE_SECONDS + signals.LAST_SECONDS < 5  # as docs/reliability.md promises
    assert one_line_of(result) == "stopped; run the same again to go on"


def test_a_second_training_in_one_folder_is_told_who_is_there(disturbed):
    result = disturbed["two trainings"]
    assert result["second"]["status"] == 2
    holder = f"student: process {result['pid']} on {socket.gethostname()}, since "
    assert holder in one_line_of(result["second"])


def test_the_lock_of_a_killed_training_is_taken_over(disturbed):
    result = disturbed["two trainings"]
    assert result["third"]["status"] == 0 and result["left"] == []
    assert any("resuming from" in line for line in result["third"]["lines"])
    assert result["artefacts"] == disturbed["trained"]


def test_a_rank_whose_neighbour_was_killed_stops_with_a_message(disturbed):
    result = disturbed["lost rank"]
    assert result["status"] == 2
    assert one_line_of(result).endswith("another process of this launch ended early; run the same again to go on")


@pytest.mark.parametrize("stage", FULL)
def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_complete(disturbed, stage):
    result = disturbed["full disk"][stage]
    assert result["first"]["status"] == 2
    assert "error: " in one_line_of(result["first"]) and "File too large" in one_line_of(result["first"])
    last = {"training": "training.json", "encoding": "shard-00000.npy"}
    assert not any(name.endswith(last.get(stage, "README.md")) for name in result["artefacts"])
    assert result["second"]["status"] == 0


@pytest.mark.parametrize("stage", READ_ONLY)
def test_a_folder_that_cannot_be_written_is_one_line_before_any_work(disturbed, stage):
    result = disturbed["read-only"][stage]
    assert result["status"] == 2 and result["left"] == []
    assert f"of-{stage}" in one_line_of(result) and "Permission denied" in one_line_of(result)
    assert not any("MRR@10" in line or "100%" in line for line in result["lines"])
