"""Every command starts on a system without what only Linux and other Unix systems have."""

import subprocess
import sys
from pathlib import Path

import pytest


COMMANDS = sorted(path.stem for path in (Path(__file__).parents[3] / "run_scripts").glob("[a-z]*.py"))
# A Python like that of Windows, as far as our imports see it: modules and functions are missing, but not from what
# the installed libraries have loaded before.
HIDE = """
import datasets, filelock, matplotlib.pyplot, multiprocessing.util, psutil, torch, transformers, accelerate, peft
import concurrent.futures.process, sys, os, signal, runpy, pathlib
hidden = ("fcntl", "resource", "pwd", "grp", "termios", "posix")
class Refuse:
    def find_spec(name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(f"{name} is not here")
for name in hidden:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refuse)
for module, names in ((os, ("register_at_fork", "sched_getaffinity", "fork")), (signal, ("SIGALRM", "setitimer"))):
    for name in names:
        delattr(module, name)
def without_proc(path, exists=pathlib.Path.exists):
    return not str(path).startswith("/proc") and exists(path)
pathlib.Path.exists = without_proc
for name in sys.argv[1:]:
    sys.argv = [f"{name}.py", "--help"]
    try:
        runpy.run_module(f"m3se.run_scripts.{name}", run_name="__main__")
    except SystemExit as ended:
        print("ended", name, ended.code)
"""


@pytest.mark.long
def test_help_of_every_command_needs_nothing_of_unix():
    command = [sys.executable, "-c", HIDE, *COMMANDS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith("ended ")]
    assert lines == [f"ended {name} 0" for name in COMMANDS]
