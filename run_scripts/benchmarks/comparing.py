"""A row measured: both sides by turns in one process, each side's memory in a process of its own."""

import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

from m3se.run_scripts.benchmarks.measuring import alternate, fastest, peak_growth
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.evaluation import markdown


OURS = "ours"
MIB = 2**20


@dataclass(frozen=True)
class Comparison:
    """Seconds of every round, ours and the peer's, and bytes by which memory grew at most (None: not measured)."""

    work: str
    peer: str
    unit: str
    amount: int
    flop: int | None
    setting: str
    settings: dict[str, float]
    our_seconds: list[float]
    peer_seconds: list[float]
    our_memory: int | None = None
    peer_memory: int | None = None

    @property
    def our_rate(self) -> float:
        """Return our work a second in the median round."""
        return self.amount / statistics.median(self.our_seconds)

    @property
    def peer_rate(self) -> float:
        """Return the peer's work a second in the median round."""
        return self.amount / statistics.median(self.peer_seconds)

    @property
    def ratios(self) -> list[float]:
        """Divide the peer's seconds by ours, round by round."""
        return [peer / own for own, peer in zip(self.our_seconds, self.peer_seconds, strict=True)]


def compare(make_row: Callable[[Workload], Row], workload: Workload, rounds: int, memory: bool) -> Comparison:
    """Find the peer's fastest setting, then let it and ours work by turns, `rounds` times each."""
    row = make_row(workload)
    setting, settings = fastest(row.peers)
    times = alternate({OURS: row.build(), setting: row.peers[setting]()}, rounds)
    sides = (OURS, setting) if memory and row.has_memory else ()
    peaks = [in_subprocess(measure_memory, make_row, replace(workload), side) for side in sides]
    return Comparison(
        row.work,
        row.peer,
        row.unit,
        row.amount,
        row.flop,
        setting,
        settings,
        times[OURS],
        times[setting],
        *(peaks or [None, None]),
    )


def measure_memory(make_row: Callable[[Workload], Row], workload: Workload, side: str) -> int | None:
    """Measure by how many bytes memory grows at most while one side works."""
    row = make_row(workload)
    return peak_growth(row.build if side == OURS else row.peers[side])


def in_subprocess(function: Callable, *arguments):
    """Call a function in a process of its own; return its result."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def table(comparisons: list[Comparison], peak: float) -> str:
    """Write a Markdown table; `peak` FLOP/s is what the last columns are shares of."""
    header = ["work", "peer, its fastest setting", "ours", "peer", "ours / peer", "memory ours", "peer"]
    rows = []
    for row in comparisons:
        rows.append(
            [
                row.work,
                f"{row.peer}, {row.setting}",
                f"{row.our_rate:,.4g} {row.unit}",
                f"{row.peer_rate:,.4g}",
                f"**{statistics.median(row.ratios):.2f}×** ({min(row.ratios):.2f}–{max(row.ratios):.2f})",
                mebibytes(row.our_memory),
                mebibytes(row.peer_memory),
                share(row, row.our_rate, peak),
                share(row, row.peer_rate, peak),
            ]
        )
    return markdown.table([*header, "of peak ours", "peer"], rows, text_columns=2)


def mebibytes(size: int | None) -> str:
    """Write a size in MiB."""
    return "–" if size is None else f"{size / MIB:,.0f} MiB"


def share(row: Comparison, rate: float, peak: float) -> str:
    """Write the useful arithmetic per second as a share of the peak."""
    return "–" if row.flop is None else f"{row.flop / row.amount * rate / peak:.0%}"
