"""A row measured: both sides by turns in one process, each side's memory in a process of its own."""

import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

from m3se.run_scripts.benchmarks.measuring import alternate, fastest, peak_growth
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation import markdown


OURS, PEER = "ours", "peer"
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
    our_setting: str = ""
    our_settings: dict[str, float] = field(default_factory=dict)
    our_remark: str = ""
    peer_remark: str = ""

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
    """Find the fastest setting of each side, then let them work by turns, `rounds` times each."""
    row = make_row(workload)
    choices = {OURS: row.settings, PEER: row.peers}
    chosen, tried, runs = {}, {}, {}
    for side, settings in choices.items():
        if not settings:
            raise InputError(f"{row.work}: no library of {side} does this; see --peers and docs/cpu.md")
        chosen[side], tried[side] = fastest(settings)
    for side, settings in choices.items():
        runs[side] = settings[chosen[side]]()
    times = alternate(runs, rounds)
    remarks = {side: row.remark(run) if row.remark else "" for side, run in runs.items()}
    details = {side: getattr(run, "setting", "") for side, run in runs.items()}
    runs.clear()
    peaks = dict.fromkeys(choices)
    if memory and row.has_memory:
        for side in choices:
            peaks[side] = in_subprocess(measure_memory, make_row, replace(workload), side, chosen[side])
    return Comparison(
        row.work,
        row.peer,
        row.unit,
        row.amount,
        row.flop,
        chosen[PEER],
        tried[PEER],
        times[OURS],
        times[PEER],
        peaks[OURS],
        peaks[PEER],
        chosen[OURS],
        tried[OURS],
        remarks[OURS],
        ", ".join(filter(None, (details[PEER], remarks[PEER]))),
    )


def measure_memory(make_row: Callable[[Workload], Row], workload: Workload, side: str, setting: str) -> int | None:
    """Measure by how many bytes memory grows at most while one side works."""
    row = make_row(workload)
    return peak_growth((row.settings if side == OURS else row.peers)[setting])


def in_subprocess(function: Callable, *arguments):
    """Call a function in a process of its own; return its result."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def table(comparisons: list[Comparison], peak: float) -> str:
    """Write a Markdown table; `peak` FLOP/s is what the last columns are shares of."""
    settings = ["peer, its fastest setting", "ours, its fastest setting"]
    header = ["work", *settings, "ours", "peer", "ours / peer", "memory ours", "peer"]
    rows = []
    for row in comparisons:
        rows.append(
            [
                row.work,
                ", ".join(filter(None, (row.peer, row.setting, row.peer_remark))),
                ", ".join(filter(None, (row.our_setting, row.our_remark))),
                f"{row.our_rate:,.4g} {row.unit}",
                f"{row.peer_rate:,.4g}",
                f"**{statistics.median(row.ratios):.2f}×** ({min(row.ratios):.2f}–{max(row.ratios):.2f})",
                mebibytes(row.our_memory),
                mebibytes(row.peer_memory),
                share(row, row.our_rate, peak),
                share(row, row.peer_rate, peak),
            ]
        )
    return markdown.table([*header, "of peak ours", "peer"], rows, text_columns=3)


def mebibytes(size: int | None) -> str:
    """Write a size in MiB."""
    return "–" if size is None else f"{size / MIB:,.0f} MiB"


def share(row: Comparison, rate: float, peak: float) -> str:
    """Write the useful arithmetic per second as a share of the peak."""
    return "–" if row.flop is None else f"{row.flop / row.amount * rate / peak:.0%}"
