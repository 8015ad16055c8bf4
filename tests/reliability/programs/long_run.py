"""Train and score for long with tiny models, and watch memory and file handles of the process.

    python -m tests.reliability.programs.long_run --steps 2000 --pairs 200000

A sample is made at each call of the model, so that their number does not depend on the speed of the machine. Growth is
that of the largest resident memory after the warm-up, the first fifth of the samples, over the largest in it. The
status is 1 where memory grows by more than 5%, or the number of open files at all.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from datasets import Dataset

from m3se.trainers.data import RankingLists
from m3se.trainers.data.schema import ROW_FEATURES
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.teacher.annotate import annotate
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds import tiny


MAY_GROW = 0.05
PROCESS = psutil.Process()


@dataclass
class Watch:
    """Resident memory in bytes and open files, sampled while something runs."""

    memory: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def sample(self) -> None:
        """Append the resident memory and the number of open files of this moment."""
        self.memory.append(PROCESS.memory_info().rss)
        self.files.append(PROCESS.num_handles() if sys.platform == "win32" else PROCESS.num_fds())

    @property
    def warm(self) -> int:
        """Number of samples in the warm-up."""
        return max(1, len(self.memory) // 5)

    @property
    def growth(self) -> float:
        """Largest memory after the warm-up over the largest in it, minus 1."""
        return max(self.memory[self.warm :]) / max(self.memory[: self.warm]) - 1

    @property
    def more_files(self) -> int:
        """Files open at the end beyond those open after the warm-up."""
        return self.files[-1] - self.files[self.warm]

    @property
    def fine(self) -> bool:
        """Decide whether neither memory nor files have grown."""
        return self.growth <= MAY_GROW and self.more_files <= 0

    def __str__(self) -> str:
        megabytes = [max(part) / 1e6 for part in (self.memory[: self.warm], self.memory[self.warm :])]
        return (
            f"{self.seconds:.0f} s, memory {megabytes[0]:.1f} MB in the warm-up and {megabytes[1]:.1f} MB after it "
            f"({self.growth:+.1%}), open files {self.files[self.warm]} and {self.files[-1]} at the end"
        )


@contextmanager
def watched(model: torch.nn.Module) -> Iterator[Watch]:
    """Sample at each call of the model within the block, and at its end."""
    watch, started = Watch(), time.monotonic()
    hook = model.register_forward_hook(lambda *_: watch.sample())
    try:
        yield watch
    finally:
        hook.remove()
        watch.sample()
        watch.seconds = time.monotonic() - started


def train(steps: int, folder: Path) -> Watch:
    """A training with evaluations, logs and checkpoints all along."""
    often = max(1, steps // 20)
    options = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": often, "save_steps": often}
    options |= {"max_steps": steps, "save_total_limit": 2, "logging_steps": 10, "in_batch_negatives": True}
    lists = tiny.ranking_lists(queries=64)
    trainer = tiny.make_trainer(tiny.dual_encoder(dropout=0.1), lists, folder, lists, **options)
    with watched(trainer.model) as watch:
        trainer.train()
    return watch


def score(pairs: int, folder: Path) -> Watch:
    """Lists of 20 documents, scored through the cache in many shards."""
    draw, table = random.Random(0), tiny.ranking_lists().documents
    teacher = PairScorer.from_pretrained(tiny.save_classifier(folder / "teacher"), "float32")
    rows = (
        {
            "query_id": f"q{number}",
            "query": f"{' '.join(draw.choices(tiny.WORDS, k=3))} {number}",
            "document_ids": draw.sample(list(table.ids), 20),
            "labels": [1.0] + [0.0] * 19,
        }
        for number in range(pairs // 20)
    )
    lists = RankingLists(Dataset.from_file(saved(rows, folder)), table)
    with watched(teacher.classifier) as watch:
        scored = annotate(lists, [teacher], folder / "cache", shard_seconds=0.5, progress=False)
    if sum(map(len, scored.rows["teacher_scores"])) != pairs // 20 * 20:
        raise RuntimeError("not every pair has a score")
    return watch


def saved(rows: Iterator[dict], folder: Path) -> str:
    """Write rows of lists to a file; return its path."""
    write_rows(rows, ROW_FEATURES, folder / "rows.arrow")
    return str(folder / "rows.arrow")


def main() -> None:
    """Run both and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--pairs", type=int, default=200_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(arguments.steps, Path(folder) / "training")
        sys.stdout.write(f"{arguments.steps:,} training steps: {trained}\n")
        scored = score(arguments.pairs, Path(folder))
        sys.stdout.write(f"{arguments.pairs:,} scored pairs: {scored}\n")
    sys.exit(not (trained.fine and scored.fine))


if __name__ == "__main__":
    main()
