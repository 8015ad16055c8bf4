"""Several models' scores of the same lists, side by side."""

from dataclasses import dataclass

import numpy as np

from m3se.trainers.data import RankingLists
from m3se.trainers.errors import InputError


@dataclass
class ScoredLists:
    """n documents of B lists, one after the other: the list (`rows`) and `labels` of each [n], and `scores` of each
    model [n]. Documents that a model gave no finite score (they have no token) are left out."""

    lists: RankingLists
    rows: np.ndarray
    labels: np.ndarray
    document_ids: np.ndarray
    scores: dict[str, np.ndarray]

    @property
    def queries(self) -> int:
        return len(self.lists.rows)

    def query(self, place: int) -> str:
        return self.lists.rows[int(self.rows[place])]["query"]

    def text(self, place: int) -> str:
        return self.lists.documents.texts([self.document_ids[place]])[0]

    def columns(self) -> dict[str, np.ndarray]:
        """Everything as columns of a table."""
        query_ids = np.array(self.lists.rows["query_id"][:], dtype=object)
        columns = {"query_id": query_ids[self.rows], "document_id": self.document_ids, "label": self.labels}
        return columns | {f"score {name}": values for name, values in self.scores.items()}


def scored_lists(lists: RankingLists, scores: dict[str, list[list[float]]]) -> ScoredLists:
    """`scores` holds, for each model, what `score_lists` gave. Raises InputError when no document has all scores."""
    sizes = [len(ids) for ids in lists.rows["document_ids"]]
    rows = np.repeat(np.arange(len(sizes)), sizes)
    flat = {name: np.array([value for row in values for value in row]) for name, values in scores.items()}
    kept = np.logical_and.reduce([np.isfinite(values) for values in flat.values()])
    if not kept.any():
        raise InputError("no document has a finite score of every model")
    labels = np.array([label for row in lists.rows["labels"] for label in row])
    ids = np.array([name for row in lists.rows["document_ids"] for name in row], dtype=object)
    flat = {name: values[kept] for name, values in flat.items()}
    return ScoredLists(lists, rows[kept], labels[kept], ids[kept], flat)
