"""One row of the table: the same work, done by this project and by a peer."""

from collections.abc import Callable
from dataclasses import dataclass

from m3se.run_scripts.benchmarks.measuring import Run


@dataclass(frozen=True)
class Row:
    """Two sides of the same work: `build` and `peers` (by setting) make what does it once.

    The peer's fastest setting is compared. `amount` counts the work in `unit`; `flop` is its useful arithmetic, None
    where that says nothing. `has_memory` is False where memory is not the question, or that of other processes.
    """

    work: str
    peer: str
    unit: str
    amount: int
    build: Callable[[], Run]
    peers: dict[str, Callable[[], Run]]
    flop: int | None = None
    has_memory: bool = True
