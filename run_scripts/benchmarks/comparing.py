"""A row measured: both sides by turns in one process, each side's memory in a process of its own."""

import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

from m3se.run_scripts.benchmarks.measuring import alternate, fastest, peak_growth
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.workload import Workload


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
        return self.amount / statistics.median(self.our_seconds)

    @property
    def peer_rate(self) -> float:
        return self.amount / statistics.median(self.peer_seconds)

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours was, round by round."""
        return [theirs / ours for ours, theirs in zip(self.our_seconds, self.peer_seconds, strict=True)]


def compare(make_row: Callable[[Workload], Row], workload: Workload, rounds: int, memory: bool) -> Comparison:
    """Find the peer's fastest setting, then let it and ours work by turns, `rounds` times each."""
    row = make_row(workload)
    setting, settings = fastest(row.peers)
    times = alternate({OURS: row.ours(), setting: row.peers[setting]()}, rounds)
    sides = (OURS, setting) if memory and row.has_memory else ()
    peaks = [apart(memory_of, make_row, replace(workload), side) for side in sides] or [None, None]
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
        *peaks,
    )


def memory_of(make_row: Callable[[Workload], Row], workload: Workload, side: str) -> int | None:
    row = make_row(workload)
    return peak_growth(row.ours if side == OURS else row.peers[side])


def apart(function: Callable, *arguments):
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        return other.submit(function, *arguments).result()


def table(comparisons: list[Comparison], peak: float) -> str:
    """Markdown; `peak` FLOP/s is what the last columns are shares of."""
    header = ["work", "peer, its fastest setting", "ours", "peer", "ours / peer", "memory ours", "peer"]
    lines = [[*header, "of peak ours", "peer"], ["---"] * 2 + ["---:"] * 7]
    for one in comparisons:
        lines.append(
            [
                one.work,
                f"{one.peer}, {one.setting}",
                f"{one.our_rate:,.4g} {one.unit}",
                f"{one.peer_rate:,.4g}",
                f"**{statistics.median(one.ratios):.2f}×** ({min(one.ratios):.2f}–{max(one.ratios):.2f})",
                mebibytes(one.our_memory),
                mebibytes(one.peer_memory),
                share(one, one.our_rate, peak),
                share(one, one.peer_rate, peak),
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def mebibytes(size: int | None) -> str:
    return "–" if size is None else f"{size / MIB:,.0f} MiB"


def share(one: Comparison, rate: float, peak: float) -> str:
    """Useful arithmetic per second as a share of the peak."""
    return "–" if one.flop is None else f"{one.flop / one.amount * rate / peak:.0%}"
