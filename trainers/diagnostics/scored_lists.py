"""Several models' scores of the same lists, side by side."""

from dataclasses import dataclass
from itertools import chain

import numpy as np

from m3se.trainers.data import RankingLists
from m3se.trainers.errors import InputError


@dataclass
class ScoredLists:
    """The documents of B lists, one after the other, with the scores of several models.

    `rows` [n] are the numbers of the documents' lists, `labels` [n] their labels, `scores` [n] those of each model.
    Documents that a model gave no finite score (they have no token) are left out.
    """

    lists: RankingLists
    rows: np.ndarray
    labels: np.ndarray
    document_ids: np.ndarray
    scores: dict[str, np.ndarray]

    @property
    def queries(self) -> int:
        """Return the number of lists."""
        return len(self.lists.rows)

    def query(self, place: int) -> str:
        """Return the text of the query whose list the document at a place is in."""
        return self.lists.rows[int(self.rows[place])]["query"]

    def text(self, place: int) -> str:
        """Return the text of the document at a place."""
        return self.lists.documents.texts([self.document_ids[place]])[0]

    def columns(self) -> dict[str, np.ndarray]:
        """Return everything as columns of a table."""
        query_ids = np.array(self.lists.rows["query_id"][:], dtype=object)
        columns = {"query_id": query_ids[self.rows], "document_id": self.document_ids, "label": self.labels}
        for name, values in self.scores.items():
            columns[f"score {name}"] = values
        return columns


def scored_lists(lists: RankingLists, scores: dict[str, list[list[float]]]) -> ScoredLists:
    """Put the scores of several models side by side, each as `score_lists` gave them.

    Raises InputError when no document has a finite score of every model.
    """
    sizes = list(map(len, lists.rows["document_ids"]))
    rows = np.repeat(np.arange(len(sizes)), sizes)
    flat = {name: np.array(list(chain.from_iterable(values))) for name, values in scores.items()}
    scored = np.isfinite(list(flat.values())).all(axis=0)
    if not scored.any():
        raise InputError("no document has a finite score of every model")
    labels = np.array(list(chain.from_iterable(lists.rows["labels"])))
    ids = np.array(list(chain.from_iterable(lists.rows["document_ids"])), dtype=object)
    flat = {name: values[scored] for name, values in flat.items()}
    return ScoredLists(lists, rows[scored], labels[scored], ids[scored], flat)
