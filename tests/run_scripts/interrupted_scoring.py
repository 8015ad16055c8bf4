"""Run score_with_teacher.py again and again in forks of this process, and disturb it."""

import random
import shutil
import signal
from pathlib import Path

from tests.launch import environments
from tests.reliability.forked import Run, digests


class Scoring(Run):
    """One run, which writes `name` and keeps its scores in `cache`. The folder must hold `teacher` and `lists`."""

    def __init__(self, folder: Path, name: str, cache: str, **disturbance):
        self.output, self.cache = folder / name, folder / cache
        flags = {"teacher": folder / "teacher", "data": folder / "lists", "output": self.output}
        flags |= {"cache_dir": self.cache, "shard_seconds": 0}
        super().__init__("score_with_teacher", flags, folder, **disturbance)

    def finish(self) -> dict:
        """Wait for the end; add the digests of the output and the number of shards to what `Run` tells."""
        return super().finish() | {"files": digests(self.output), "shards": shards(self.cache)}


def shards(cache: Path) -> int:
    """Count the shards of a cache."""
    return len(list(cache.glob("teacher_scores/*/*.scores")))


def kill(folder: Path, kills: int, changes: int) -> list[dict]:
    """Kill a fresh run, which makes so many changes to files, before one of them; then let a second one finish."""
    draw, results = random.Random(0), []
    for number in range(kills):
        moment = 1 + int(changes * (number + draw.random()) / kills)  # every part of the run gets its kills
        killed = Scoring(folder, f"killed-{number}", f"cache-killed-{number}", moment=moment).finish()
        again = Scoring(folder, f"killed-{number}", f"cache-killed-{number}").finish()
        results.append({"first": killed, "second": again})
        shutil.rmtree(folder / f"cache-killed-{number}")
    return results


def interrupt(folder: Path, number: signal.Signals) -> dict:
    """Let a run get a signal once two shards are there, then let a second one finish."""
    name, cache = number.name, f"cache-{number.name}"
    stopped = Scoring(folder, name, cache, moment=lambda: shards(folder / cache) >= 2, number=number)
    return {"first": stopped.finish(), "second": Scoring(folder, name, cache).finish()}


def share_cache(folder: Path) -> list[dict]:
    """Run two unrelated runs with one cache at the same time."""
    runs = [Scoring(folder, f"sharing-{number}", "cache-shared") for number in range(2)]
    return [run.finish() for run in runs]


def launch(folder: Path) -> list[dict]:
    """Run two ranks, as `accelerate launch` starts them."""
    with environments() as ranks:
        runs = [Scoring(folder, "launch", "cache-launch", **rank) for rank in ranks]
        return [run.finish() for run in runs]


def lose_a_rank(folder: Path) -> dict:
    """Run two ranks of one launch; the second is killed once a shard is there."""
    cache = folder / "cache-rank"
    with environments() as (first, second):
        survivor = Scoring(folder, "rank", cache.name, **first)
        lost = Scoring(folder, "rank", cache.name, moment=lambda: shards(cache) >= 1, **second)
        finished = survivor.finish()
        lost.finish()
    return {"first": finished, "second": Scoring(folder, "rank", cache.name).finish()}


def disturb(folder: Path, kills: int) -> dict:
    """Disturb runs in every way; return what happened by kind of disturbance."""
    undisturbed = Scoring(folder, "undisturbed", "cache-undisturbed").finish()
    return {
        "undisturbed": undisturbed,
        "killed": kill(folder, kills, undisturbed["changes"]),
        "SIGINT": interrupt(folder, signal.SIGINT),
        "SIGTERM": interrupt(folder, signal.SIGTERM),
        "sharing": share_cache(folder),
        "launch": launch(folder),
        "rank": lose_a_rank(folder),
        "no space for a shard": Scoring(folder, "full", "cache-full", largest_file=200).finish(),
        "no space for the output": Scoring(folder, "full", "cache-full", largest_file=2000).finish(),
        "space again": Scoring(folder, "full", "cache-full").finish(),
        "left": sorted(path.name for path in folder.iterdir()),
    }
