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
from m3se.run_scripts.publishing import push  # noqa: F401
from m3se.run_scripts.work import diagnose, distill, evaluate, make_retriever, reproduce  # noqa: F401
from m3se.trainers.teacher import pair_scorer as teacher


tqdm.monitor_interval = 0  # a fork while its thread holds the lock of all bars would never make one
Moment = int | Callable[[], bool] | None
PAIRS_PER_CHUNK = 16
PATIENCE = 300.0
# Python's audit events of what changes a file system; `open` counts when it is for writing.
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "os.chmod"}
# Entries of a record that no two runs share, and Trainer's mean of the steps since it was started.
TIMES = re.compile(r"(^|_)(seconds|runtime|per_second)(_|$)|flos|^train_loss$")


class Run:
    """`run_scripts.SCRIPT FLAGS` in a process of its own, which leads a group: a kill reaches its children too.

    Args:
        below: Where changes of files are counted.
        moment: When the process sends itself a signal: before the change of that number, or before the first one for
            which this function says so. Its own count does not depend on how fast it or its parent is.
        number: That signal. None: SIGKILL to its whole group.
        largest_file: Size in bytes that a file may have, as on a full disk.
        before: Is called in the process first.
    """

    def __init__(
        self,
        script: str,
        flags: dict[str, object],
        below: Path,
        moment: Moment = None,
        number: int | None = None,
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
                    limit_files(largest_file)
                if before:
                    before()
                os._exit(status_of(script, flags, below, moment, number))
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
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def wait_until_stopped(self) -> None:
        """Return when SIGSTOP has reached the process."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise RuntimeError(f"the process has ended with {status}: {self.reader.read()[-2000:]}")

    def kill(self) -> None:
        """Send SIGKILL to the process and its children."""
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
    sys.stdout, sys.stderr = (io.TextIOWrapper(file, "utf-8", line_buffering=True) for file in raw)
    logging.getLogger().handlers.clear()


def limit_files(size: int) -> None:
    """Let no file become larger than that many bytes."""
    import resource  # Windows has no such module

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def status_of(
    script: str, flags: dict[str, object], below: Path, moment: Moment = None, number: int | None = None
) -> int:
    """Run the script in this process; return its exit status. The moment is that of `Run`."""
    tqdm.set_lock(threading.RLock())  # the lock that forks share stays taken when one is killed while it draws a bar
    torch.set_num_threads(1)
    teacher.CHUNK_PAIRS["cpu"] = PAIRS_PER_CHUNK
    module = import_module(f"m3se.run_scripts.{script}")
    words = [word for name, value in flags.items() for word in (f"--{name}", *parts(value))]
    sys.argv = [f"{script}.py", *words]
    changes = count_changes(str(below), moment, number)
    status = 0
    try:
        run(module.make_parser, module.main)
    except SystemExit as error:
        status = int(error.code or 0)
    sys.stderr.flush()
    print(f"\nCHANGES {changes[0]}", flush=True)  # noqa: T201
    return status


def parts(value: object) -> list[str]:
    """Write a flag's value or values as words of a command line."""
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]


def count_changes(below: str, moment: Moment, number: int | None) -> list[int]:
    """Count changes to files below a folder from now on, in the one entry of a list; send a signal at a moment."""
    count, due = [0], [moment is not None]

    def notice(event: str, arguments: tuple) -> None:
        if event not in CHANGES or not str(arguments[0]).startswith(below):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        count[0] += 1
        if due[0] and (moment() if callable(moment) else count[0] == moment):
            due[0] = False
            os.killpg(0, signal.SIGKILL) if number is None else os.kill(os.getpid(), number)

    sys.addaudithook(notice)
    return count


def digests(folder: Path, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Digest the content of every file under a folder, but for the parts named and for times in records and tables."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder): path for path in files}
    compared = {name for name in names if not any(part.startswith(leave_out) for part in name.parts)}
    return {str(name): hashlib.sha256(content(names[name])).hexdigest() for name in compared}


def content(path: Path) -> bytes:
    """Read the bytes of a file; of a record or a table those that say nothing of time."""
    if path.name in ("training.json", "metrics.json", "results.json"):
        record = timeless(json.loads(path.read_text(encoding="utf-8")))
        return json.dumps(record, sort_keys=True).encode()
    if path.name == "table.md":
        return re.sub(r"\| *[\d,–]+ \|$", "|", path.read_text(encoding="utf-8"), flags=re.MULTILINE).encode()
    return path.read_bytes()


def timeless(value):
    """Leave times and speeds out of a record."""
    if isinstance(value, dict):
        return {name: timeless(part) for name, part in value.items() if not TIMES.search(name)}
    return [timeless(part) for part in value] if isinstance(value, list) else value
