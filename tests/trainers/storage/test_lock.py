"""One process at a time works in a folder, and the others are told which."""

import json
import os
import re
import signal
import socket

import pytest

from m3se.trainers.errors import InputError
from m3se.trainers.storage.lock import exclusive


HOST = socket.gethostname()


def left_behind(folder, text):
    path = folder.with_name(f".{folder.name}.holder")
    path.write_text(text, encoding="utf-8")
    return path


def test_a_lock_that_another_host_left_is_never_taken_for_stale(tmp_path):
    path = left_behind(
        tmp_path / "student", json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-02 03:04:05"})
    )
    message = (
        f"{tmp_path}/student: process 1 on elsewhere, since 2026-01-02 03:04:05, was writing there; "
        f"if it is gone, delete {path}"
    )
    for _ in range(2):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"), exclusive(tmp_path / "student"):
            pass
    assert json.loads(path.read_text(encoding="utf-8"))["host"] == "elsewhere"
    path.unlink()
    with exclusive(tmp_path / "student"):
        assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid()
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "\x00" * 40, "[1, 2]", "null", json.dumps({"pid": 1, "host": HOST})],
    ids=["empty", "cut", "NUL", "list", "null", "killed"],
)
def test_a_lock_that_no_process_holds_is_taken_over_whatever_it_says(tmp_path, text):
    path = left_behind(tmp_path / "student", text)
    with exclusive(tmp_path / "student"):
        assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid()


@pytest.mark.linux
def test_a_lock_is_held_until_its_process_ends_however_it_ends(tmp_path):
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            with exclusive(tmp_path / "student"):
                os.write(writer, b"x")
                signal.pause()
        finally:
            os._exit(1)
    os.read(reader, 1)
    try:
        with pytest.raises(
            InputError, match=f"student: process {holder} on {re.escape(HOST)}, since .*, is writing there"
        ):
            exclusive(tmp_path / "student").__enter__()
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    with exclusive(tmp_path / "student"):
        pass


def test_a_folder_that_no_lock_can_be_written_beside_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/student: cannot be written"), exclusive(tmp_path / "file" / "student"):
        pass


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "student").write_text("mine", encoding="utf-8")
    with (
        pytest.raises(InputError, match=r"student: expected a folder to write to, got a file$"),
        exclusive(tmp_path / "student"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
