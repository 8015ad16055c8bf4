"""Run score_with_teacher.py again and again in forks of this process, and disturb it."""

import random
import shutil
import signal
import socket
import time
from pathlib import Path

from tests.reliability.forked import Run, digests


class Scoring(Run):
    """One run, which writes `name` and keeps its scores in `cache`. The folder must hold `teacher` and `lists`."""

    def __init__(self, folder: Path, name: str, cache: str, largest_file: int | None = None, **environment: str):
        self.output, self.cache = folder / name, folder / cache
        flags = {"teacher": folder / "teacher", "data": folder / "lists", "output": self.output}
        flags |= {"cache_dir": self.cache, "shard_seconds": 0}
        super().__init__("score_with_teacher", flags, folder, largest_file=largest_file, **environment)

    def shards(self) -> int:
        return len(list(self.cache.glob("teacher_scores/*/*.scores")))

    def wait_for_shards(self, count: int) -> None:
        self.wait_for(lambda: self.shards() >= count)

    def finish(self) -> dict:
        return super().finish() | {"files": digests(self.output), "shards": self.shards()}


def kill(folder: Path, kills: int, shards: int) -> list[dict]:
    """Kill a fresh run, which writes `shards` in all, at random moments; then let a second one finish.

    A moment is a number of shards and a few milliseconds, not a time: it then falls on work on a busy machine too. A
    run may be through before it is killed when the moment is after its last shard, while the output is written.
    """
    generator, results = random.Random(0), []
    for number in range(kills):
        killed = Scoring(folder, f"killed-{number}", f"cache-killed-{number}")
        progress = (number + generator.random()) / kills  # every stage gets its kills, however few there are
        killed.wait_for_shards(min(int(1.1 * progress * shards), shards))
        time.sleep(generator.uniform(0, 0.03))
        killed.kill()
        first = killed.finish()
        again = Scoring(folder, f"killed-{number}", f"cache-killed-{number}").finish()
        results.append({"first": first, "second": again})
        shutil.rmtree(folder / f"cache-killed-{number}")
    return results


def interrupt(folder: Path, number: signal.Signals) -> dict:
    """Send a signal once two shards are there, then let a second run finish."""
    name = number.name
    stopped = Scoring(folder, name, f"cache-{name}")
    stopped.wait_for_shards(2)
    stopped.signal(number)
    return {"first": stopped.finish(), "second": Scoring(folder, name, f"cache-{name}").finish()}


def share_cache(folder: Path) -> list[dict]:
    """Two unrelated runs with one cache at the same time."""
    return [one.finish() for one in [Scoring(folder, f"sharing-{number}", "cache-shared") for number in range(2)]]


def launch(folder: Path, name: str) -> list[Scoring]:
    """Two ranks, as `accelerate launch` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [Scoring(folder, name, f"cache-{name}", **both, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]


def lose_a_rank(folder: Path) -> dict:
    """Two ranks of one launch; the second is killed while it works."""
    ranks = launch(folder, "rank")
    ranks[0].wait_for_shards(1)
    ranks[1].kill()
    first, _ = ranks[0].finish(), ranks[1].finish()
    return {"first": first, "second": Scoring(folder, "rank", "cache-rank").finish()}


def disturb(folder: Path, kills: int) -> dict:
    """What happened, by kind of disturbance."""
    undisturbed = Scoring(folder, "undisturbed", "cache-undisturbed").finish()
    return {
        "undisturbed": undisturbed,
        "killed": kill(folder, kills, undisturbed["shards"]),
        "SIGINT": interrupt(folder, signal.SIGINT),
        "SIGTERM": interrupt(folder, signal.SIGTERM),
        "sharing": share_cache(folder),
        "launch": [rank.finish() for rank in launch(folder, "launch")],
        "rank": lose_a_rank(folder),
        "no space for a shard": Scoring(folder, "full", "cache-full", largest_file=200).finish(),
        "no space for the output": Scoring(folder, "full", "cache-full", largest_file=2000).finish(),
        "space again": Scoring(folder, "full", "cache-full").finish(),
        "left": sorted(path.name for path in folder.iterdir()),
    }
