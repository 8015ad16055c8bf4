"""The best documents of a whole collection, exactly: every document is scored, the best k of each query are kept.

Memory is that of one block of documents, one block of scores and k results per query, whatever the collection's size.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.faiss_index import open_index, recall_against, search_index
from m3se.trainers.retrieval.scorers import DenseScorer, Scorer, inner_products


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
            values, columns = above(scores, self.scores[:, -1:])
            if values.shape[1] > self.k:
                values, columns = stable_top_k(scores, self.k)
        self.waiting.append((values, columns + first_row))
        if self.scores.shape[1] < self.k or sum(values.shape[1] for values, _ in self.waiting) >= self.k:
            self.sort_in()

    def sort_in(self) -> None:
        scores = torch.cat([self.scores, *(values for values, _ in self.waiting)], dim=1)
        rows = torch.cat([self.rows, *(rows for _, rows in self.waiting)], dim=1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        self.scores, self.rows = scores[:, : self.k], rows.gather(1, order[:, : self.k])
        self.waiting = []

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32, highest first, and rows int64, [B, k] each (fewer when there were fewer documents)."""
        self.sort_in()
        return self.scores.cpu().numpy(), self.rows.cpu().numpy()


def above(scores: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """The entries of each row of scores [B, n] that are higher than least [B, 1] -> values and columns [B, most of any
    row], columns ascending; shorter rows are filled with −inf."""
    groups = in_groups(scores.T)  # transposed, as `search` lays them out
    # Most groups have no such entry, and looking for the highest of each is three times as fast as at every entry.
    group, row = (groups.amax(1) > least.T).nonzero(as_tuple=True)
    hit, place = (groups[group, :, row] > least[row]).nonzero(as_tuple=True)
    found, rows = group[hit] * GROUP + place, row[hit]
    rows, order = rows.sort(stable=True)
    found, counts = found[order], rows.bincount(minlength=len(scores))
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    values = scores.new_full((len(scores), max(counts.tolist(), default=0)), -torch.inf)
    columns = torch.zeros_like(values, dtype=torch.long)
    values[rows, places] = scores[rows, found]
    columns[rows, places] = found
    return values, columns


def in_groups(scores: Tensor) -> Tensor:
    """[n, B] -> [ceil(n / GROUP), GROUP, B], the last group filled with −inf."""
    if missing := -len(scores) % GROUP:
        scores = pad(scores, (0, 0, 0, missing), value=-torch.inf)
    return scores.unflatten(0, (-1, GROUP))


def stable_top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The highest k of each row of scores [B, n] -> values and columns [B, k], k ≤ n; of equals the lower column."""
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
    """The k documents with the highest inner product: queries [B, H] float32 -> scores float32 and rows int64 [B, k].

    The scores are computed once more as re-ranking computes them, so that both give the same number. Where more than
    `SPARE` documents are within rounding of the k-th score, it is left open which of these are found.
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
    """Scores and rows [B, k] in the order of the scores of `inner_products`; of equal scores the lower row first."""
    scores = np.empty(rows.shape, dtype=np.float32)
    rows = np.sort(rows, axis=1)
    step = max(ROWS_PER_READ // max(rows.shape[1], 1), 1)
    for start in range(0, len(queries), step):
        distinct, places = np.unique(rows[start : start + step], return_inverse=True)
        embeddings = collection.embeddings(distinct)
        for query, found in enumerate(places.reshape(-1, rows.shape[1]), start=start):
            scores[query] = inner_products(queries[query], embeddings[found])
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def retrieve(
    scorer: DenseScorer, queries: dict[str, str], collection: EmbeddedCollection, k: int, progress: bool = True
) -> Run:
    """The best k documents of every query (id → text), best first."""
    embeddings = scorer.encode(list(queries.values()), "query", None)
    scores, rows = search(embeddings, collection, k, scorer.device, progress)
    return named(list(queries), scores, rows, collection.ids)


def retrieve_by_index(
    scorer: DenseScorer,
    queries: dict[str, str],
    collection: EmbeddedCollection,
    k: int,
    factory: str,
    probes: int | None = None,
) -> tuple[Run, float]:
    """What the FAISS index `factory` finds of the best k, and the share of the exact best k that is among it."""
    index = open_index(collection, factory)
    embeddings = scorer.encode(list(queries.values()), "query", None)
    scores, rows = search_index(index, embeddings, k, probes)
    _, exact = search(embeddings, collection, k, scorer.device)
    return named(list(queries), scores, rows, collection.ids), recall_against(exact, rows)


def retrieve_by_scoring(
    scorer: Scorer, queries: dict[str, str], documents: DocumentTable, k: int, block_size: int = 4_096
) -> Run:
    """As `retrieve`, for models that cannot embed a document in one vector: every pair is scored."""
    best = BestScores(len(queries), k)
    with tqdm(total=len(documents), desc="scoring all", unit="document") as bar:
        for ids, texts in documents.batches(block_size):
            scores = scorer.score_matrix(list(queries.values()), texts)
            best.update(torch.from_numpy(scores), bar.n)
            bar.update(len(ids))
    return named(list(queries), *best.result(), documents.ids_at)


def named(queries: list[str], scores: np.ndarray, rows: np.ndarray, ids: Callable[[np.ndarray], list[str]]) -> Run:
    """Scores and rows [B, k] as a run; `ids` gives the document ids of rows. A row of −1 is no document."""
    distinct = np.unique(rows[rows >= 0])
    names = dict(zip(distinct.tolist(), ids(distinct), strict=True))
    return {
        query: {names[row]: score for row, score in zip(found, values, strict=True) if row >= 0}
        for query, values, found in zip(queries, scores.tolist(), rows.tolist(), strict=True)
    }
