"""A study of one table in a few seconds: its recipes made small, its jobs run in forks instead of new processes."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import yaml

from m3se.run_scripts.cli.recipe import read_recipe
from m3se.run_scripts.reproduction import run as running
from tests.reliability import forked


RECIPES = Path(running.__file__).parents[1] / "recipes"
SMALLER = {
    "layers": 1,
    "query_length": 8,
    "document_length": 16,
    "documents_per_query": 4,
    "depth": 10,
    "per_device_train_batch_size": 4,
    "dev_queries": 3,
    "train_sample_size": 3,
    "logging_steps": 1,
    "eval_steps": 2,
    "save_steps": 2,
}


def write_recipes(folder: Path, encoder: Path) -> None:
    """The recipes of table 1 at its small scale, on an untrained encoder: two trials, two evaluations."""
    shutil.copytree(RECIPES / "table1", folder / "table1")
    (folder / "small").mkdir()
    for path in (RECIPES / "small").glob("*.yaml"):
        recipe = read_recipe(path)
        recipe |= {name: value for name, value in SMALLER.items() if name in recipe}
        recipe |= {"encoder": str(encoder)} if "encoder" in recipe else {}
        write(folder / "small" / path.name, recipe)
    small = read_recipe(RECIPES / "scales.yaml")["small"] | {"held_out": 3}
    trials = [{"learning_rate": 1e-3}, {"learning_rate": 1e-2}]
    small["selection"]["trials"] = {"default": trials}
    small["evaluations"] = {
        "rerank": {"split": "test", "candidates": "bm25", "depth": 10},
        "retrieval": {"split": "test", "retrieve": True, "depth": 10},
    }
    write(folder / "scales.yaml", {"small": small})


def write(path: Path, recipe: dict) -> None:
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def fork_jobs(below: Path) -> None:
    """Let reproduce.py run its jobs in forks of this process."""

    class Job:
        """What `subprocess.Popen` is for reproduction/run.py."""

        def __init__(self, command: list[str], stdout, stderr, env):
            script, recipe = Path(command[-3]).stem, command[-1]
            self.returncode: int | None = None
            self.pid = os.fork()
            if self.pid == 0:
                os.dup2(stdout.fileno(), 1)
                os.dup2(stdout.fileno(), 2)
                os._exit(forked.status_of(script, {"recipe": recipe}, below))

        def poll(self) -> int | None:
            if self.returncode is None:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if ended else None
            return self.returncode

        def wait(self, timeout: float) -> None:
            deadline = time.monotonic() + timeout
            while self.poll() is None:
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired("job", timeout)
                time.sleep(0.01)

        def send_signal(self, number: int) -> None:
            os.kill(self.pid, number)

        def kill(self) -> None:
            self.send_signal(signal.SIGKILL)

    running.subprocess = SimpleNamespace(Popen=Job, STDOUT=subprocess.STDOUT, TimeoutExpired=subprocess.TimeoutExpired)
    running.POLL_SECONDS = 0.01
