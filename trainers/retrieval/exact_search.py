"""Exact search of embeddings: every document is scored, the best k of each query are kept.

Memory is that of one block of documents, one block of scores and k results per query, whatever the collection's size.
`torch.topk` and `faiss.knn` leave open which of equal scores they return; here it is the first in the collection.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.scorers import inner_products


# Entries of one [B, n] block of scores, 16 MiB: larger ones take twice as long to compute on a CPU, because their
# memory is mapped anew each time.
SCORES_PER_BLOCK = 2**22
LARGEST_BLOCK = 16_384  # documents
GROUP = 16  # documents of a block that are compared with a query's k-th best at once
SPARE = 8  # results beyond k that are scored once more: a block's product rounds by where a document is in it
ROWS_PER_READ = 32_768  # embeddings in memory while results are scored once more


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
        self.waiting.append((values, columns + first_row))
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


@torch.inference_mode()
def search(
    queries: np.ndarray,
    collection: EmbeddedCollection,
    k: int,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k documents with the highest inner product: scores float32 and rows int64, [B, k] each.

    The scores are computed once more as re-ranking computes them, so that both give the same number. Where more than
    `SPARE` documents are within rounding of the k-th score, it is left open which of these are found.

    Args:
        queries: embeddings [B, H] float32.
        collection: the documents' embeddings.
        k: documents of a query.
        device: where blocks are multiplied.
        progress: show a bar.

    Raises:
        InputError: the documents' embeddings have another width.
    """
    if queries.shape[1] != collection.width:
        raise InputError(
            f"{collection.folder}: embeddings have {collection.width} numbers, the queries' {queries.shape[1]}; "
            "was it encoded with another model?"
        )
    on_device = torch.from_numpy(queries).to(device)
    best = BestScores(len(queries), k + SPARE, device)
    groups = SCORES_PER_BLOCK // max(len(queries), 1) // GROUP
    block_size = min(max(groups, 1) * GROUP, LARGEST_BLOCK)
    with tqdm(total=len(collection), desc="searching", unit="document", disable=not progress) as bar:
        for first_row, block in collection.blocks(block_size):
            # [n, B] and transposed: BLAS computes that faster than [B, n].
            best.update((torch.from_numpy(block).to(device) @ on_device.T).T, first_row)
            bar.update(len(block))
    scores, rows = rescored(queries, collection, best.result()[1])
    return scores[:, :k], rows[:, :k]


def rescored(queries: np.ndarray, collection: EmbeddedCollection, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and rows [B, k] in the order of `inner_products`' scores; of equal scores the lower row first."""
    scores = np.empty(rows.shape, dtype=np.float32)
    rows = np.sort(rows, axis=1)
    step = max(ROWS_PER_READ // max(rows.shape[1], 1), 1)
    for start in range(0, len(queries), step):
        distinct, places = np.unique(rows[start : start + step], return_inverse=True)
        embeddings = collection.embeddings(distinct)
        for query, matches in enumerate(places.reshape(-1, rows.shape[1]), start=start):
            scores[query] = inner_products(queries[query], embeddings[matches])
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
