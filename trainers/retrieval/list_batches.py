"""Rows of ranking lists in batches, and their scores list by list."""

from itertools import islice

import numpy as np
from tqdm import tqdm

from m3se.trainers.data import RankingLists


def document_positions(rows) -> dict[str, int]:
    """Number the distinct documents of some rows in the order in which they occur."""
    positions: dict[str, int] = {}
    for row in rows:
        for name in row["document_ids"]:
            positions.setdefault(name, len(positions))
    return positions


def pair_bar(lists: RankingLists, progress: bool) -> tqdm:
    """Return a progress bar over all pairs of the lists."""
    total = sum(len(row["document_ids"]) for row in lists.rows)
    return tqdm(total=total, desc="scoring pairs", unit="pair", disable=not progress)


def split_like(values: np.ndarray, rows: list[dict]) -> list[list[float]]:
    """Cut the scores [sum of K] of the documents of some rows into one list per row."""
    remaining = iter(values.tolist())
    return [list(islice(remaining, len(row["document_ids"]))) for row in rows]


def take_rows(rows, pairs: int) -> list[dict]:
    """Take the next rows of an iterator, up to at least `pairs` documents."""
    batch: list[dict] = []
    documents = 0
    while documents < pairs and (row := next(rows, None)) is not None:
        batch.append(row)
        documents += len(row["document_ids"])
    return batch
