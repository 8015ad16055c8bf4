"""The best scores of a stream of blocks, and the rows of the documents that have them; the same however it is cut."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad


GROUP = 16  # documents of a block that are compared with a query's k-th best at once


class BestScores:
    """The k highest scores seen so far of each of B queries, and the rows of the documents that have them.

    Of equal scores the lower row comes first, so the result does not depend on how the documents were cut into blocks.
    Once there are k, only scores above the k-th best are looked at, and sorted in when k of them have gathered.
    """

    def __init__(self, queries: int, k: int, device: torch.device | str = "cpu"):
        self.k = k
        self.scores = torch.empty(queries, 0, device=device)
        self.rows = torch.empty(queries, 0, dtype=torch.long, device=device)
        self.waiting: list[tuple[Tensor, Tensor]] = []

    def update(self, scores: Tensor, first_row: int) -> None:
        """Take in the scores [B, n] of documents first_row … first_row + n − 1; rows must come in ascending order."""
        if self.scores.shape[1] < self.k:
            values, columns = stable_top_k(scores, min(self.k, scores.shape[1]))
        else:  # an equal score comes after those that are there already
            values, columns = entries_above(scores, self.scores[:, -1:])
            if values.shape[1] > self.k:
                values, columns = stable_top_k(scores, self.k)
        self.add(values, columns + first_row)

    def add(self, values: Tensor, rows: Tensor) -> None:
        """Take in scores and rows [B, m] of some documents that come after those before."""
        self.waiting.append((values, rows))
        if self.scores.shape[1] < self.k or sum(values.shape[1] for values, _ in self.waiting) >= self.k:
            self.sort_in()

    def sort_in(self) -> None:
        """Merge the scores that have gathered since the last time."""
        scores = torch.cat([self.scores, *(values for values, _ in self.waiting)], dim=1)
        rows = torch.cat([self.rows, *(rows for _, rows in self.waiting)], dim=1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        self.scores, self.rows = scores[:, : self.k], rows.gather(1, order[:, : self.k])
        self.waiting = []

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return scores float32, highest first, and rows int64, [B, k] each (fewer of fewer documents)."""
        self.sort_in()
        return self.scores.cpu().numpy(), self.rows.cpu().numpy()


def entries_above(scores: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Select the entries of each row of scores [B, n] that are higher than least [B, 1].

    Returns values and columns [B, the most of any row], columns ascending; shorter rows are filled with −inf.
    """
    groups = split_into_groups(scores.T)  # transposed, as `search` lays them out
    # Most groups have no such entry, and looking for the highest of each is three times as fast as at every entry.
    group, row = (groups.amax(1) > least.T).nonzero(as_tuple=True)
    hit, place = (groups[group, :, row] > least[row]).nonzero(as_tuple=True)
    entries, rows = group[hit] * GROUP + place, row[hit]
    rows, order = rows.sort(stable=True)
    entries, counts = entries[order], rows.bincount(minlength=len(scores))
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    values = scores.new_full((len(scores), max(counts.tolist(), default=0)), -torch.inf)
    columns = torch.zeros_like(values, dtype=torch.long)
    values[rows, places] = scores[rows, entries]
    columns[rows, places] = entries
    return values, columns


def split_into_groups(scores: Tensor) -> Tensor:
    """Reshape [n, B] to [ceil(n / GROUP), GROUP, B], the last group filled with −inf."""
    if missing := -len(scores) % GROUP:
        scores = pad(scores, (0, 0, 0, missing), value=-torch.inf)
    return scores.unflatten(0, (-1, GROUP))


def stable_top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the highest k ≤ n of each row of scores [B, n], values and columns; of equals the lower column."""
    values, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    # topk may pick any of the documents that tie with the last place.
    tied = (values[:, k - 1 : k] == values[:, k:]).any(dim=1)
    columns, order = columns[:, :k].sort(dim=1)
    values, order = values[:, :k].gather(1, order).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    for row in tied.nonzero()[:, 0].tolist():
        columns[row] = scores[row].argsort(descending=True, stable=True)[:k]
    return values, columns
