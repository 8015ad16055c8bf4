"""Run score_with_teacher.py again and again, and disturb it. Prints what happened as one JSON object.

    python -m tests.run_scripts.interrupted_scoring FOLDER [KILLS]

Every run is a fork of this process, which has imported everything and computed nothing: a run takes half a second
instead of ten, and kills fall on work, not on imports. FOLDER must hold `teacher` and `lists`.
"""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import torch

from run_scripts import score_with_teacher
from run_scripts.cli import run
from trainers import teacher


PAIRS_PER_CHUNK = 16
PATIENCE = 300.0


class Run:
    """One run in a process of its own; `finish` waits for it and returns status, stderr and seconds."""

    def __init__(self, folder: Path, name: str, cache: str, largest_file: int | None = None, **environment: str):
        self.output, self.cache = folder / name, folder / cache
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.environ.update(environment)
            if largest_file:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
            os._exit(status_of(folder, self.output, self.cache))
        os.close(writer)
        self.reader = os.fdopen(reader, encoding="utf-8", errors="replace")

    def shards(self) -> int:
        return len(list(self.cache.glob("teacher_scores/*/*.scores")))

    def wait_for_shards(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.shards() < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {count} shards in {self.cache}: {self.finish()}")
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def finish(self) -> dict:
        start = time.monotonic()
        text = self.reader.read()
        _, status = os.waitpid(self.pid, 0)
        return {
            "status": os.waitstatus_to_exitcode(status),
            "lines": [line for line in text.replace("\r", "\n").splitlines() if line.strip()],
            "seconds": time.monotonic() - start,
            "files": digests(self.output),
            "shards": self.shards(),
        }


def status_of(folder: Path, output: Path, cache: Path) -> int:
    """The exit status of the script in this process."""
    torch.set_num_threads(1)
    teacher.CHUNK_PAIRS["cpu"] = PAIRS_PER_CHUNK
    flags = {"teacher": folder / "teacher", "data": folder / "lists", "output": output, "cache_dir": cache}
    flags |= {"shard_seconds": 0}
    sys.argv = ["score_with_teacher.py", *(part for key, value in flags.items() for part in (f"--{key}", str(value)))]
    status = 0
    try:
        run(score_with_teacher.make_parser, score_with_teacher.main)
    except SystemExit as error:
        status = int(error.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def digests(folder: Path) -> dict[str, str]:
    """Content of every file under a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill(folder: Path, kills: int, shards: int) -> list[dict]:
    """Kill a fresh run, which writes `shards` in all, at random moments; then let a second one finish.

    A moment is a number of shards and a few milliseconds, not a time: it then falls on work on a busy machine too. A
    run may be through before it is killed when the moment is after its last shard, while the output is written.
    """
    generator, results = random.Random(0), []
    for number in range(kills):
        killed = Run(folder, f"killed-{number}", f"cache-killed-{number}")
        progress = (number + generator.random()) / kills  # every stage gets its kills, however few there are
        killed.wait_for_shards(min(int(1.1 * progress * shards), shards))
        time.sleep(generator.uniform(0, 0.03))
        killed.signal(signal.SIGKILL)
        first = killed.finish()
        results.append({"first": first, "second": Run(folder, f"killed-{number}", f"cache-killed-{number}").finish()})
        shutil.rmtree(folder / f"cache-killed-{number}")
    return results


def interrupt(folder: Path, number: signal.Signals) -> dict:
    """Send a signal once two shards are there, then let a second run finish."""
    name = number.name
    stopped = Run(folder, name, f"cache-{name}")
    stopped.wait_for_shards(2)
    stopped.signal(number)
    return {"first": stopped.finish(), "second": Run(folder, name, f"cache-{name}").finish()}


def share_cache(folder: Path) -> list[dict]:
    """Two unrelated runs with one cache at the same time."""
    return [one.finish() for one in [Run(folder, f"sharing-{number}", "cache-shared") for number in range(2)]]


def launch(folder: Path, name: str) -> list[Run]:
    """Two ranks, as `accelerate launch` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [Run(folder, name, f"cache-{name}", **both, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]


def lose_a_rank(folder: Path) -> dict:
    """Two ranks of one launch; the second is killed while it works."""
    ranks = launch(folder, "rank")
    ranks[0].wait_for_shards(1)
    ranks[1].signal(signal.SIGKILL)
    first, _ = ranks[0].finish(), ranks[1].finish()
    return {"first": first, "second": Run(folder, "rank", "cache-rank").finish()}


def main(folder: Path, kills: int) -> dict:
    undisturbed = Run(folder, "undisturbed", "cache-undisturbed").finish()
    return {
        "undisturbed": undisturbed,
        "killed": kill(folder, kills, undisturbed["shards"]),
        "SIGINT": interrupt(folder, signal.SIGINT),
        "SIGTERM": interrupt(folder, signal.SIGTERM),
        "sharing": share_cache(folder),
        "launch": [rank.finish() for rank in launch(folder, "launch")],
        "rank": lose_a_rank(folder),
        "no space for a shard": Run(folder, "full", "cache-full", largest_file=200).finish(),
        "no space for the output": Run(folder, "full", "cache-full", largest_file=2000).finish(),
        "space again": Run(folder, "full", "cache-full").finish(),
        "left": sorted(path.name for path in folder.iterdir()),
    }


if __name__ == "__main__":
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), kills)) + "\n")
