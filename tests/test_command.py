"""The `m3se` command, from a folder that is not the checkout."""

import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from m3se.__main__ import main


SCRIPTS = Path(__file__).resolve().parents[1] / "run_scripts"
# In what `-X importtime` says: a library that takes longer to import than all that a page of help needs.
LARGE = re.compile(r"\| +(accelerate|datasets|matplotlib|numpy|peft|pyarrow|scipy|torch|transformers)\b")
COMMANDS = sorted(path.stem for path in SCRIPTS.glob("[a-z]*.py"))


def m3se(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "importtime", "-m", "m3se", *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)


def test_alone_it_lists_the_commands_with_a_line_each_and_loads_nothing_large():
    ended = m3se()
    lines = re.findall(r"^  (\w+) +(.+)$", ended.stdout, re.MULTILINE)
    assert ended.returncode == 0
    assert [name for name, _ in lines] == COMMANDS
    assert all(line[0].isupper() and len(line) < 120 for _, line in lines)
    assert not LARGE.search(ended.stderr)


def test_a_command_is_run_with_its_options(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["m3se", "search", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: m3se search [--recipe FILE] [--option value ...] query ...")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_waits_for_a_large_library(name):
    ended = m3se(name, "--help")
    assert ended.returncode == 0 and ended.stdout.startswith(f"usage: m3se {name} ")
    assert not LARGE.search(ended.stderr)


def test_the_package_is_imported_without_a_large_library():
    command = [sys.executable, "-X", "importtime", "-c", "import m3se"]
    ended = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0 and " m3se\n" in ended.stderr
    assert not LARGE.search(ended.stderr)


@pytest.mark.parametrize("name", ["serach", "../search", "cli"])
def test_a_command_that_does_not_exist_is_one_line(name):
    ended = m3se(name)
    assert ended.returncode == 2
    errors = [line for line in ended.stderr.splitlines() if not line.startswith("import time:")]
    assert len(errors) == 1 and errors[0].startswith(f"m3se: error: no command {name!r}; there are benchmark, ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(unbuffered):
    """`m3se | head -1`, when `head` has ended before the first line."""
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "m3se"]
    ended = subprocess.run(command, cwd="/", stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, env=env)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.linux
def test_a_reader_that_leaves_the_help_of_a_command_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    errors = tmp_path / "errors.txt"
    process = multiprocessing.get_context("fork").Process(target=show_help, args=(writer, errors))
    process.start()
    process.join(timeout=120)
    os.close(writer)
    assert (process.exitcode, errors.read_text()) == (141, "")


def show_help(writer: int, errors: Path) -> None:
    """Run `m3se search --help` in this process with the streams of a pipe and a file."""
    sys.argv = ["m3se", "search", "--help"]
    sys.stdout = os.fdopen(writer, "w")
    with open(errors, "w") as sys.stderr:
        main()


def test_a_script_started_by_its_path_does_not_hide_a_library_of_its_neighbours_name(tmp_path):
    """run_scripts/evaluate.py stands in the folder that Python puts first on the path."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit\nfrom importlib.util import find_spec\n\n"
        "atexit.register(lambda: print(find_spec('evaluate').origin))\n"
    )
    command = [sys.executable, str(SCRIPTS / "evaluate.py"), "--help"]
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    library = Path(ended.stdout.splitlines()[-1])
    assert library.name == "__init__.py" and SCRIPTS not in library.parents
