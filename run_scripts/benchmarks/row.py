"""One row of the table: the same work, done by this project and by a peer."""

from collections.abc import Callable
from dataclasses import dataclass

from m3se.run_scripts.benchmarks.measuring import Run


@dataclass(frozen=True)
class Row:
    """Two sides of the same work: ours by `settings` and theirs by `peers` make what does it once.

    The fastest setting of each is compared. `amount` counts the work in `unit`; `flop` is its useful arithmetic, None
    where that says nothing. `has_memory` is False where memory is not the question, or that of other processes.
    `remark` says more of a side that is ready to work.
    """

    work: str
    peer: str
    unit: str
    amount: int
    settings: dict[str, Callable[[], Run]]
    peers: dict[str, Callable[[], Run]]
    flop: int | None = None
    has_memory: bool = True
    remark: Callable[[Run], str] | None = None
