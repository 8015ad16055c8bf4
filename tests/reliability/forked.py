"""Scripts run in forks of this process, which has imported everything and computed nothing.

A run then takes a second instead of ten, and what disturbs it falls on its work, not on imports.
"""

import gc
import hashlib
import io
import json
import logging
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm

from m3se.run_scripts.cli.app import run
from m3se.trainers.teacher import pair_scorer as teacher


tqdm.monitor_interval = 0  # a fork while its thread holds the lock of all bars would never make one
PAIRS_PER_CHUNK = 16
PATIENCE = 300.0
# Python's audit events of what changes a file system; `open` counts when it is for writing.
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "os.chmod"}
# Entries of a record that no two runs share, and Trainer's mean of the steps since it was started.
TIMES = re.compile(r"(^|_)(seconds|runtime|per_second)(_|$)|flos|^train_loss$")


class Run:
    """`run_scripts.SCRIPT FLAGS` in a process of its own, which leads a group: a kill reaches its children too.

    `below` is where changes of files are counted; before number `killed_at` the process kills itself. `largest_file`
    limits the size of files, as a full disk would. `before` is called in the process first.
    """

    def __init__(
        self,
        script: str,
        flags: dict[str, object],
        below: Path,
        killed_at: int | None = None,
        largest_file: int | None = None,
        before: Callable[[], None] | None = None,
        **environment: str,
    ):
        reader, writer = os.pipe()
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            try:  # whatever happens, a child must not go on with what its parent does
                gc.freeze()  # collecting garbage among all that the parent has imported would take half the time
                os.setpgrp()
                os.dup2(writer, 1)
                os.dup2(writer, 2)
                write_there()
                os.environ.update(environment)
                PartialState._reset_state()  # an earlier test of this process may have been a launch of one
                if largest_file:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
                if before:
                    before()
                os._exit(status_of(script, flags, below, killed_at))
            finally:
                traceback.print_exc()
                os._exit(1)
        os.close(writer)
        self.reader = os.fdopen(reader, encoding="utf-8", errors="replace")

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; raise TimeoutError when it does not in `PATIENCE` seconds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"what was waited for did not come: {self.finish()['lines'][-5:]}")
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """The process and its children, with SIGKILL."""
        with suppress(ProcessLookupError):  # it has not made its group yet
            os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)

    def finish(self) -> dict:
        """Wait for the end: status, lines of output, seconds since this call and since the start, counted changes."""
        called = time.monotonic()
        text = self.reader.read()
        self.reader.close()
        _, status = os.waitpid(self.pid, 0)
        lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
        counted = [int(line.split()[1]) for line in lines if line.startswith("CHANGES ")]
        return {
            "status": os.waitstatus_to_exitcode(status),
            "lines": [line for line in lines if not line.startswith("CHANGES ")],
            "seconds": time.monotonic() - called,
            "lasted": time.monotonic() - self.started,
            "changes": counted[-1] if counted else None,
        }


def write_there() -> None:
    """Let prints and logs go to file descriptors 1 and 2 line by line, and not to where pytest collects its own."""
    raw = (io.FileIO(number, "w", closefd=False) for number in (1, 2))
    sys.stdout, sys.stderr = (io.TextIOWrapper(one, "utf-8", line_buffering=True) for one in raw)
    logging.getLogger().handlers.clear()


def status_of(script: str, flags: dict[str, object], below: Path, killed_at: int | None) -> int:
    """The exit status of the script in this process."""
    tqdm.set_lock(threading.RLock())  # the lock that forks share stays taken when one is killed while it draws a bar
    torch.set_num_threads(1)
    teacher.CHUNK_PAIRS["cpu"] = PAIRS_PER_CHUNK
    module = import_module(f"m3se.run_scripts.{script}")
    words = [word for name, value in flags.items() for word in (f"--{name}", *parts(value))]
    sys.argv = [f"{script}.py", *words]
    changes = count_changes(str(below), killed_at)
    status = 0
    try:
        run(module.make_parser, module.main)
    except SystemExit as error:
        status = int(error.code or 0)
    sys.stderr.flush()
    print(f"\nCHANGES {changes[0]}", flush=True)  # noqa: T201
    return status


def parts(value: object) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]


def count_changes(below: str, killed_at: int | None) -> list[int]:
    """A list with the number of changes to files below a folder, from now on."""
    count = [0]

    def notice(event: str, arguments: tuple) -> None:
        if event not in CHANGES or not str(arguments[0]).startswith(below):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        count[0] += 1
        if count[0] == killed_at:
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(notice)
    return count


def digests(folder: Path, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Content of every file under a folder, but for the parts named and for times in records and tables."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder): path for path in files}
    kept = {name: path for name, path in names.items() if not any(part.startswith(leave_out) for part in name.parts)}
    return {str(name): hashlib.sha256(content(path)).hexdigest() for name, path in kept.items()}


def content(path: Path) -> bytes:
    """The bytes of a file; of a record or a table those that say nothing of time."""
    if path.name in ("training.json", "metrics.json", "results.json"):
        record = timeless(json.loads(path.read_text(encoding="utf-8")))
        return json.dumps(record, sort_keys=True).encode()
    if path.name == "table.md":
        return re.sub(r"\| *[\d,–]+ \|$", "|", path.read_text(encoding="utf-8"), flags=re.MULTILINE).encode()
    return path.read_bytes()


def timeless(value):
    if isinstance(value, dict):
        return {name: timeless(part) for name, part in value.items() if not TIMES.search(name)}
    return [timeless(part) for part in value] if isinstance(value, list) else value
