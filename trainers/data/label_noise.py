"""Labels that are wrong on purpose, to see what they do to a loss."""

from dataclasses import replace
from hashlib import blake2b

import numpy as np

from m3se.trainers.data.candidates import query_generator
from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError


SEED = 0  # of the documents that get the labels
LARGEST = 2**64


def check_noise(share: float | None) -> None:
    """Raise InputError for a share of wrong labels that cannot be."""
    if share is not None and not 0 <= share <= 1:
        raise InputError(f"--label_noise: expected a share from 0 to 1, got {share}")


def move_labels(lists: RankingLists, share: float | None) -> RankingLists:
    """Move the labels of a share of the lists to documents without one, drawn at random; None: of none.

    Whether the labels of a query are moved depends on its id alone, so a teacher's lists and a student's are wrong for
    the same queries. The report counts them.
    """
    if share is None:
        return lists
    moved = []

    def move(row: dict) -> dict:
        """Return the labels of a row, moved if its query is among the chosen."""
        if not is_chosen(row["query_id"], share):
            return {"labels": row["labels"]}
        moved.append(row["query_id"])
        return {"labels": exchanged(row)}

    rows = lists.rows.map(move, keep_in_memory=True)
    return replace(lists, rows=rows, report=lists.report | {"labels_moved": len(moved)})


def is_chosen(query_id: str, share: float) -> bool:
    """Decide by a hash of its id whether a query is in the share; another hash than that which orders queries."""
    digest = blake2b(query_id.encode(), digest_size=8, person=b"label noise").digest()
    return int.from_bytes(digest, "big") < share * LARGEST


def exchanged(row: dict) -> list[float]:
    """Exchange the label of each positive of a row with that of a negative, as far as there are negatives."""
    labels = np.array(row["labels"], dtype=float)
    negatives = query_generator(row["query_id"], SEED).permutation(np.flatnonzero(labels <= 0))
    for positive, negative in zip(np.flatnonzero(labels > 0), negatives, strict=False):
        labels[[positive, negative]] = labels[[negative, positive]]
    return labels.tolist()
