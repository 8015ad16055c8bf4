"""Time and memory of work that is done in two ways, and the best that this machine could do."""

import gc
import logging
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from m3se.run_scripts.benchmarks.peer_process import PeerProcess


logger = logging.getLogger(__name__)

Run = Callable[[], object]  # does the whole work once
LONG = 5  # seconds: beside a run of so many warming up does not count, and chance does not decide
LIBRARIES = ("torch", "transformers", "sentence-transformers", "faiss-cpu")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def seconds(run: Run) -> float:
    """Measure the wall-clock time of one run, on an accelerator until it has finished."""
    finish()
    started = time.perf_counter()
    run()
    finish()
    return time.perf_counter() - started


def finish() -> None:
    """Wait until an accelerator has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(sides: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of every round of every side; each runs once before, and then by turns with the others."""
    for run in sides.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            times[name].append(seconds(run))
        logger.info(", ".join(f"{name}: {values[-1]:.3f} s" for name, values in times.items()))
    return times


def fastest(settings: dict[str, Callable[[], Run]]) -> tuple[str, dict[str, float]]:
    """Find the setting with the shortest run, and the seconds of all; each is built, warmed up, run and dropped.

    The median counts of as many runs as take `LONG` seconds. Nothing is measured where there is no choice.
    """
    if len(settings) == 1:
        return next(iter(settings)), {}
    times: dict[str, float] = {}
    for name, build in settings.items():
        run = build()
        times[name] = seconds(run)
        if times[name] < LONG:
            times[name] = statistics.median(repeat(run))
        logger.info("%s: %.3f s", name, times[name])
        del run
        gc.collect()
    return min(times, key=times.get), times


def repeat(run: Run) -> list[float]:
    """Measure runs, one at least, until `LONG` seconds have gone."""
    times = [seconds(run)]
    while sum(times) < LONG:
        times.append(seconds(run))
    return times


def peak_growth(build: Callable[[], Run], runs: int = 2) -> int | None:
    """Measure by how many bytes memory grows at most while the work is set up and done `runs` times.

    None where that is not known. On a GPU it is the allocated memory, else the resident memory of this process, which
    must do nothing else, or of the one that works for it.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    elif not CLEAR.exists():
        return None
    else:
        CLEAR.write_text("5")  # the peak starts anew
        before = kibibytes("VmRSS") * 1024
    run = build()
    for _ in range(runs):
        run()
    finish()
    if isinstance(run, PeerProcess):
        return run.peak()
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else kibibytes("VmHWM") * 1024
    return peak - before


def kibibytes(name: str) -> int:
    """Read an entry of this process's status."""
    return int(re.search(rf"{name}:\s+(\d+)", STATUS.read_text()).group(1))


def matrix_peak(dtypes: list[str], device: torch.device, size: int = 1024) -> float:
    """Measure FLOP/s of the best of a hundred products of two square matrices, in the fastest of the number formats.

    A hundred, because a shared processor may be slow for a while.
    """
    best = []
    for dtype in dtypes:
        factors = torch.randn(2, size, size, device=device, dtype=getattr(torch, dtype))
        multiply = partial(torch.mm, *factors)
        multiply()
        best += [seconds(multiply) for _ in range(100)]
    return 2 * size**3 / min(best)


def machine(device: torch.device) -> dict[str, str | int]:
    """Describe what figures must be read with: processor, threads, versions."""
    model = re.search(r"model name\s*:\s*(.+)", cpu_info())
    description = {
        "processor": model.group(1) if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        **dict(zip(LIBRARIES, map(version, LIBRARIES), strict=True)),
    }
    return description | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})


def cpu_info() -> str:
    """Read Linux's description of the processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
