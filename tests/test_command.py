"""The `m3se` command, from a folder that is not the checkout."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


COMMANDS = sorted(path.stem for path in (Path(__file__).parents[1] / "run_scripts").glob("[a-z]*.py"))


def m3se(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "importtime", "-m", "m3se", *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)


def test_alone_it_lists_the_commands_with_a_line_each_and_loads_nothing_large():
    ended = m3se()
    lines = re.findall(r"^  (\w+) +(.+)$", ended.stdout, re.MULTILINE)
    assert ended.returncode == 0
    assert [name for name, _ in lines] == COMMANDS
    assert all(line[0].isupper() and len(line) < 120 for _, line in lines)
    assert not re.search(r"\b(torch|transformers|numpy)\b", ended.stderr)


def test_a_command_is_run_with_its_options():
    ended = m3se("search", "--help")
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage: m3se search [--recipe FILE] [--option value ...] query ...")


@pytest.mark.parametrize("name", ["serach", "../search", "cli"])
def test_a_command_that_does_not_exist_is_one_line(name):
    ended = m3se(name)
    assert ended.returncode == 2
    errors = [line for line in ended.stderr.splitlines() if not line.startswith("import time:")]
    assert len(errors) == 1 and errors[0].startswith(f"m3se: error: no command {name!r}; there are benchmark, ")
