"""Exact search of embeddings: every document is scored, the best k of each query are kept.

Memory is that of one block of documents, one block of scores and k results per query, whatever the collection's size.
On a CPU FAISS scores the blocks where it is installed, elsewhere torch. Each rounds in its own way, and leaves open
which of equal scores it returns. Results depend on neither: the best are scored once more, and where rounding may have
decided which they are, they are looked for in float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import torch
from tqdm import tqdm

from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.best_scores import GROUP, BestScores
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.scorers import inner_products


# Entries of one [B, n] block of scores, 16 MiB: larger ones take twice as long to compute on a CPU, because their
# memory is mapped anew each time.
SCORES_PER_BLOCK = 2**22
LARGEST_BLOCK = 16_384  # documents
FAISS_BLOCK = 2**24  # numbers of a block for FAISS, 64 MiB: it starts to look for the best anew in every block
FAISS_QUERIES = 20  # with fewer, but more than one, torch is faster
SPARE = 8  # results beyond k that are scored once more: a block's product rounds by where a document is in it
ROWS_PER_READ = 32_768  # embeddings in memory while results are scored once more
# Largest rounding error of a product of two vectors of H numbers, in parts of √H ‖q‖ ‖d‖: with overwhelming
# probability errors grow no faster (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019).
ROUNDING = 4 * 2.0**-24


@torch.inference_mode()
def search(
    queries: np.ndarray,
    collection: EmbeddedCollection,
    k: int,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k documents with the highest inner product: scores float32 and rows int64, [B, k] each.

    The scores are computed as re-ranking computes them, so that both give the same number. Of equal scores the lower
    row comes first.

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
    total = len(collection)
    with tqdm(total=total, desc="searching", unit="document", disable=not progress) as bar:
        if faiss_is_faster(len(queries), device):
            rows = best_by_faiss(queries, collection, k + SPARE, bar)
        else:
            rows = best_by_torch(queries, collection, k + SPARE, device, bar)
    scores, rows, longest = rescored(queries, collection, rows)
    rounding = ROUNDING * np.sqrt(collection.width) * np.linalg.norm(queries, axis=1) * longest
    if k + SPARE < total and (undecided := scores[:, k - 1] - scores[:, -1] <= 2 * rounding).any():
        with tqdm(total=total, desc="searching again", unit="document", disable=not progress) as bar:
            rows[undecided, :k] = best_by_torch(queries[undecided], collection, k, device, bar, torch.float64)
        scores, rows, _ = rescored(queries, collection, rows[:, :k])
    return scores[:, :k], rows[:, :k]


def faiss_is_faster(queries: int, device: torch.device | str) -> bool:
    """Tell whether FAISS is installed, and faster than torch for so many queries on this device."""
    is_faster = torch.device(device).type == "cpu" and (queries == 1 or queries >= FAISS_QUERIES)
    return is_faster and find_spec("faiss") is not None


def best_by_faiss(queries: np.ndarray, collection: EmbeddedCollection, k: int, bar: tqdm) -> np.ndarray:
    """Find the rows [B, k] of the highest inner products, in the rounding of FAISS; `bar` is advanced by documents."""
    import faiss

    best = BestScores(len(queries), k)
    with faiss_settings(len(queries)):
        for first_row, block in collection.blocks(max(FAISS_BLOCK // collection.width, 1)):
            scores, rows = faiss.knn(queries, block, min(k, len(block)), faiss.METRIC_INNER_PRODUCT)
            best.add(torch.from_numpy(scores), torch.from_numpy(rows) + first_row)
            bar.update(len(block))
    return best.result()[1]


@contextmanager
def faiss_settings(queries: int) -> Iterator[None]:
    """Let FAISS use the threads of torch, and a matrix product for more than one query.

    It scores a hundred queries one by one by itself, which is many times slower with the few threads of most machines.
    """
    import faiss

    threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss.omp_set_num_threads(torch.get_num_threads())
    if queries > 1:
        faiss.cvar.distance_compute_blas_threshold = 0
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_threshold = threshold


def best_by_torch(
    queries: np.ndarray,
    collection: EmbeddedCollection,
    k: int,
    device: torch.device | str,
    bar: tqdm,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """Find the rows [B, k] of the highest inner products.

    Args:
        queries, collection, k, device: as in `search`.
        bar: is advanced by documents.
        dtype: number format of products, before they are rounded to float32.
    """
    on_device = torch.from_numpy(queries).to(device, dtype)
    best = BestScores(len(queries), k, device)
    groups = SCORES_PER_BLOCK // max(len(queries), 1) // GROUP
    for first_row, block in collection.blocks(min(max(groups, 1) * GROUP, LARGEST_BLOCK)):
        # [n, B] and transposed: BLAS computes that faster than [B, n].
        scores = torch.from_numpy(block).to(device, dtype) @ on_device.T
        best.update(scores.float().T, first_row)
        bar.update(len(block))
    return best.result()[1]


def rescored(
    queries: np.ndarray, collection: EmbeddedCollection, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort rows [B, k] by `inner_products`' scores, of equal scores the lower row first.

    Returns:
        Scores and rows [B, k], and the length of the longest embedding of each query's rows [B].
    """
    scores, longest = np.empty(rows.shape, dtype=np.float32), np.zeros(len(rows), dtype=np.float32)
    rows = np.sort(rows, axis=1)
    step = max(ROWS_PER_READ // max(rows.shape[1], 1), 1)
    for start in range(0, len(queries), step):
        distinct, places = np.unique(rows[start : start + step], return_inverse=True)
        embeddings = collection.embeddings(distinct)
        lengths = np.linalg.norm(embeddings, axis=1)
        for query, matches in enumerate(places.reshape(-1, rows.shape[1]), start=start):
            scores[query] = inner_products(queries[query], embeddings[matches])
            longest[query] = lengths[matches].max()
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1), longest
