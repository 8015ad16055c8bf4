"""The folder of a training: which of its checkpoints a stopped run goes on from."""

import json
from pathlib import Path

import pytest

from m3se.trainers.run_folder import delete_checkpoints, last_checkpoint


def write_checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 1}), encoding="utf-8")
    return folder


def test_the_latest_whole_checkpoint_is_used(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for step in (2, 10):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-12").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize(
    "name", ["checkpoint-best", "checkpoint-40.old", "checkpoint-40-copy", "checkpoint-", "checkpoint-١٢"]
)
def test_a_folder_of_another_name_is_left_alone(tmp_path, name):
    write_checkpoint(tmp_path / "checkpoint-4")
    write_checkpoint(tmp_path / name)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    assert (tmp_path / name).is_dir()


def test_a_file_of_the_name_is_no_checkpoint(tmp_path):
    (tmp_path / "checkpoint-7").touch()
    write_checkpoint(tmp_path / "checkpoint-4")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")


@pytest.mark.parametrize(
    ("limit", "best", "remaining"),
    [(1, None, {10}), (2, None, {9, 10}), (1, 2, {2, 10}), (2, 10, {9, 10}), (7, 2, {2, 4, 9, 10})],
)
def test_the_latest_checkpoints_and_the_best_remain(tmp_path, limit, best, remaining):
    for step in (10, 9, 4, 2):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    delete_checkpoints(tmp_path, limit, best and str(tmp_path / f"checkpoint-{best}"))
    assert {path.name for path in tmp_path.iterdir()} == {f"checkpoint-{step}" for step in remaining}
