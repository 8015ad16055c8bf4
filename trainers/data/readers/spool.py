"""Judged pairs by the hundred million, in any order → lists by query, in bounded memory.

A pair takes 16 bytes: positions of query and document, a label and a teacher score. More than `PAIRS_IN_MEMORY`
go to files, each of which has all pairs of its share of the queries, so that they are grouped one after the other.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np


PAIR = np.dtype([("query", "<i4"), ("document", "<i4"), ("label", "<f4"), ("score", "<f4")])
PAIRS_IN_MEMORY = 5_000_000
BUCKETS = 64
SAME_SCORE = 1e-4  # a teacher that scores a pair again differs by rounding


@dataclass
class Group:
    """The distinct pairs of one query [K], in the order in which they were first given."""

    query: int
    documents: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class PairSpool:
    """Collects pairs and gives them back by query.

    A pair that was given several times has its highest label and its first score that is not NaN; `counts` says how
    often pairs were repeated, labelled in two ways, or scored differently.
    """

    def __init__(self, folder: Path | None = None):
        self.counts: Counter[str] = Counter()
        self._held: list[np.ndarray] = []
        self._held_pairs = 0
        self._folder = folder
        self._spilled: TemporaryDirectory | None = None

    def add(self, queries: np.ndarray, documents: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> None:
        """Add pairs: positions [n], labels [n] (0 or higher) and scores [n] (NaN: unknown)."""
        pairs = np.empty(len(queries), PAIR)
        for name, values in (("query", queries), ("document", documents), ("label", labels), ("score", scores)):
            pairs[name] = values
        self._held.append(pairs)
        self._held_pairs += len(pairs)
        if self._held_pairs > PAIRS_IN_MEMORY:
            self._spill()

    def groups(self) -> Iterator[Group]:
        """Yield every query that has a pair, once. May be called once."""
        if self._spilled is None:
            yield from self._grouped(self._take())
            return
        self._spill()
        with self._spilled as folder:
            for bucket in range(BUCKETS):
                file = Path(folder) / str(bucket)
                if file.exists():
                    yield from self._grouped(np.fromfile(file, PAIR))

    def _take(self) -> np.ndarray:
        pairs = np.concatenate(self._held) if self._held else np.empty(0, PAIR)
        self._held, self._held_pairs = [], 0
        return pairs

    def _spill(self) -> None:
        if self._spilled is None:
            self._spilled = TemporaryDirectory(dir=self._folder, prefix=".pairs-")
        pairs = self._take()
        buckets = pairs["query"] % BUCKETS
        for bucket in np.unique(buckets):
            with open(Path(self._spilled.name) / str(bucket), "ab") as file:
                pairs[buckets == bucket].tofile(file)

    def _grouped(self, pairs: np.ndarray) -> Iterator[Group]:
        pairs = pairs[np.argsort(pairs["query"], kind="stable")]
        ends = np.append(np.flatnonzero(np.diff(pairs["query"])) + 1, len(pairs))
        start = 0
        for end in ends.tolist():
            if end > start:
                yield self._merged(pairs[start:end])
            start = end

    def _merged(self, pairs: np.ndarray) -> Group:
        documents, first, inverse = np.unique(pairs["document"], return_index=True, return_inverse=True)
        query, order = int(pairs["query"][0]), np.argsort(first)
        if len(documents) == len(pairs):
            return Group(query, pairs["document"], pairs["label"], pairs["score"])
        labels = np.full(len(documents), -np.inf, np.float32)
        np.maximum.at(labels, inverse, pairs["label"])
        lowest = np.full(len(documents), np.inf, np.float32)
        np.minimum.at(lowest, inverse, pairs["label"])
        scores = self._first_scores(pairs["score"], inverse, len(documents))
        self.counts["pairs_repeated"] += len(pairs) - len(documents)
        self.counts["pairs_labelled_in_two_ways"] += int((lowest < labels).sum())
        return Group(query, documents[order], labels[order], scores[order])

    def _first_scores(self, scores: np.ndarray, inverse: np.ndarray, size: int) -> np.ndarray:
        """Return the first score [size] that is not NaN of every document, from the scores [n] of repeated pairs."""
        places = np.flatnonzero(~np.isnan(scores))
        first = np.full(size, np.nan, np.float32)
        first[inverse[places[::-1]]] = scores[places[::-1]]
        differ = np.abs(scores[places] - first[inverse[places]]) > SAME_SCORE
        self.counts["pairs_scored_differently"] += len(np.unique(inverse[places][differ]))
        return first
