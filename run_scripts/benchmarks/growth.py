"""Our own work a second by documents per query, length, processes and the size of a collection."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from transformers import TrainerCallback

from m3se.run_scripts.benchmarks.measuring import alternate
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.searching import exact_search
from m3se.run_scripts.benchmarks.steps import dual_encoder, dual_encoder_step, our_trainer
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.evaluation import markdown


DOCUMENTS_PER_QUERY = (2, 8, 20, 50, 100)
LENGTHS = (32, 64, 128, 256, 512)
PROCESSES = (1, 2)
SHARES = (100, 10, 1)  # of the searched collection: the whole of it, a tenth and a hundredth
START_METHOD = "spawn"


@dataclass(frozen=True)
class Point:
    """One size: seconds of every round, the work of one in `unit`, and its useful arithmetic."""

    size: int
    seconds: list[float]
    amount: int
    unit: str
    flop: int

    @property
    def rate(self) -> float:
        """Return the work a second in the median round."""
        return self.amount / median(self.seconds)

    def share(self, peak: float) -> float:
        """Return the useful arithmetic a second as a share of `peak` FLOP/s."""
        return self.flop / median(self.seconds) / peak


def measure_row(size: int, row: Row, rounds: int) -> Point:
    """Measure our side of a row alone."""
    (build,) = row.settings.values()
    seconds = alternate({str(size): build()}, rounds)[str(size)]
    return Point(size, seconds, row.amount, row.unit, row.flop)


def by_documents_per_query(workload: Workload, rounds: int) -> Iterator[Point]:
    """Measure a step on about as many documents each time, of fewer queries where these have more."""
    documents = 8 * workload.sizes.queries
    for size in DOCUMENTS_PER_QUERY:
        fewer = replace(workload, sizes=replace(workload.sizes, queries=max(1, documents // size)))
        yield measure_row(size, dual_encoder_step(fewer, size), rounds)


def by_length(workload: Workload, rounds: int) -> Iterator[Point]:
    """Measure a step with documents of at most so many tokens."""
    for size in LENGTHS:
        yield measure_row(size, dual_encoder_step(replace(workload, document_length=size)), rounds)


def by_documents(workload: Workload, rounds: int) -> Iterator[Point]:
    """Measure exact search in collections of several sizes."""
    for share in SHARES:
        size = max(1, workload.sizes.searched // share)
        yield measure_row(size, exact_search(workload, size), rounds)


def by_processes(workload: Workload, rounds: int) -> Iterator[Point]:
    """Measure `DistillationTrainer.train` on the same batch, shared by processes that share the threads too."""
    available = torch.cuda.device_count() or os.cpu_count() or 1
    row = dual_encoder_step(workload)
    for size in PROCESSES:
        if size <= available and workload.sizes.queries % size == 0:
            seconds = shared_training(workload, size, rounds)
            # the peak is that of one GPU, or of all threads of a CPU
            devices = size if workload.device.type == "cuda" else 1
            yield Point(size, seconds, row.amount, row.unit, row.flop // devices)


def shared_training(workload: Workload, processes: int, rounds: int) -> list[float]:
    """Train in several processes; return the seconds of each optimiser step but the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, torch.get_num_threads() // processes)
    size = str(processes)
    world = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    train = partial(rank_process, world, workload=replace(workload), rounds=rounds, threads=threads)
    with ProcessPoolExecutor(processes, get_context(START_METHOD)) as pool:
        return list(pool.map(train, range(processes)))[0]


def rank_process(world: dict[str, str], rank: int, workload: Workload, rounds: int, threads: int) -> list[float]:
    """Train as one of several processes; return the seconds of each step but the first.

    Args:
        world: Environment variables that all processes share, as torchrun sets them.
        rank: The number of this process.
        workload: What to train on.
        rounds: Steps that are measured.
        threads: Of this process.
    """
    os.environ |= world | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(threads)
    lists, times = workload.lists(8), StepTimes()
    options = {"num_train_epochs": rounds + 1, "lr_scheduler_type": "constant", "logging_strategy": "no"}
    options["per_device_train_batch_size"] = workload.sizes.queries // int(world["WORLD_SIZE"])
    trainer = our_trainer(dual_encoder(workload), lists, workload, **options)
    trainer.add_callback(times)
    trainer.train()
    return np.diff(times.ends).tolist()


class StepTimes(TrainerCallback):
    """The times at which optimiser steps ended."""

    def __init__(self):
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Remember the time."""
        self.ends.append(time.perf_counter())


CURVES: dict[str, tuple[str, Callable[[Workload, int], Iterator[Point]]]] = {
    "documents_per_query": ("training step: documents per query", by_documents_per_query),
    "length": ("training step: document tokens at most", by_length),
    "processes": ("training step: processes", by_processes),
    "searched": ("exact search: documents", by_documents),
}


def table(curves: dict[str, list[Point]], peak: float) -> str:
    """Write a Markdown table of every point of every curve."""
    rows = []
    for name, points in curves.items():
        for point in points:
            speed = f"{point.rate:,.4g} {point.unit}"
            rows.append([CURVES[name][0], f"{point.size:,}", speed, f"{point.share(peak):.0%}"])
    return markdown.table(["", "size", "a second", "of peak"], rows)


def picture(curves: dict[str, list[Point]], peak: float) -> Figure:
    """Draw a panel for each curve: work a second, and beside each point the share of the machine's matrix product."""
    figure = Figure(figsize=(3.6 * len(curves), 3.4), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (name, points) in zip(panels, curves.items(), strict=True):
        sizes = [point.size for point in points]
        rates = [point.rate for point in points]
        panel.plot(sizes, rates, marker="o")
        for point in points:
            where = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            panel.annotate(f"{point.share(peak):.0%}", (point.size, point.rate), **where)
        panel.set_xscale("log")
        panel.set_xticks(sizes, list(map("{:,}".format, sizes)))
        panel.xaxis.set_minor_locator(NullLocator())
        if max(rates) > 5 * min(rates):
            panel.set_yscale("log")
            panel.set_ylim(min(rates) / 2, 2 * max(rates))
        else:
            panel.set_ylim(0, 1.2 * max(rates))
        panel.set_xlabel(CURVES[name][0])
        panel.set_ylabel(points[0].unit.replace("/s", " a second"))
    figure.suptitle("percentages: useful arithmetic, of the machine's own matrix product", fontsize=9)
    return figure
