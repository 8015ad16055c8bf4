"""Time and memory of work that is done in two ways, and what this machine could do at best."""

import gc
import logging
import os
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch


logger = logging.getLogger(__name__)

Run = Callable[[], object]  # does the whole work once
LONG = 5  # seconds, beside which warming up does not count
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def seconds(run: Run) -> float:
    """Wall-clock time of one run, on an accelerator until it has finished."""
    finish()
    started = time.perf_counter()
    run()
    finish()
    return time.perf_counter() - started


def finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(sides: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of every side; each side runs once before, and then by turns with the others."""
    for run in sides.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            times[name].append(seconds(run))
        logger.info(", ".join(f"{name}: {values[-1]:.3f} s" for name, values in times.items()))
    return times


def fastest(settings: dict[str, Callable[[], Run]]) -> tuple[str, dict[str, float]]:
    """The setting whose run is the shortest, and the seconds of all; each is built, warmed up, run and dropped."""
    times = {}
    for name, build in settings.items():
        run = build()
        times[name] = seconds(run)
        if times[name] < LONG:
            times[name] = seconds(run)
        logger.info("%s: %.3f s", name, times[name])
        del run
        gc.collect()
    return min(times, key=times.get), times


def peak_growth(build: Callable[[], Run], runs: int = 2) -> int | None:
    """Bytes by which memory grows at most while the work is set up and done `runs` times; None where not known.

    On a GPU its allocated memory, else the resident memory of this process, which must do nothing else.
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
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else kibibytes("VmHWM") * 1024
    return peak - before


def kibibytes(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+)", STATUS.read_text()).group(1))


def matrix_peak(dtypes: list[str], device: torch.device, size: int = 1024) -> float:
    """FLOP/s of the best of a hundred products of two square matrices, in the fastest of some number formats.

    A hundred, because a shared processor may be slow for a while.
    """
    best = []
    for dtype in dtypes:
        left, right = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
        torch.mm(left, right)
        best += [seconds(lambda a=left, b=right: torch.mm(a, b)) for _ in range(100)]
    return 2 * size**3 / min(best)


def machine(device: torch.device) -> dict[str, str | int]:
    """What figures must be read with: processor, threads, versions."""
    model = re.search(r"model name\s*:\s*(.+)", cpu_info())
    description = {
        "processor": model.group(1) if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "sentence-transformers", "faiss-cpu")},
    }
    return description | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})


def cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
