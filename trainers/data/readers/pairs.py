"""Pairs of a query and a document, in any order, grouped into one list of candidates per query."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from datasets import Dataset

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.readers.source import Pair, Qrels, Stream
from m3se.trainers.data.readers.spool import Group, PairSpool
from m3se.trainers.data.schema import CANDIDATE_FEATURES, SCORED_CANDIDATE_FEATURES
from m3se.trainers.errors import InputError, preview
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import cache_key, cache_root, reusable


logger = logging.getLogger(__name__)

PAIRS_AT_ONCE = 100_000


@dataclass
class CollectedLists:
    """Candidates by query, the relevant pairs among them, and counts of dropped and repeated pairs, by reason."""

    candidates: Dataset
    qrels: Qrels
    counts: dict[str, int]


def collect_lists(
    pairs: Stream[Pair],
    queries: Iterable[str],
    documents: DocumentTable,
    cache_dir: str | Path | None = None,
    allow_missing: bool = False,
) -> CollectedLists:
    """Collect pairs by query in the cache, or open them there. The documents of a query stay in their order.

    Args:
        pairs: the pairs, in any order; those of other queries are dropped and counted.
        queries: the ids of the queries.
        documents: the table that has the documents.
        cache_dir: the cache.
        allow_missing: drop and count pairs of unknown documents instead of refusing them.

    Raises:
        InputError: unknown documents, no pair left, or teacher scores that are all the same.
    """
    names = list(queries)
    key = cache_key(pairs.place, pairs.key, documents.fingerprint, names, allow_missing)
    folder = cache_root(cache_dir) / f"lists-{key}"
    if reusable(folder):
        logger.info("%s: reusing the lists in %s", pairs.place, folder)
    else:
        with complete_folder(folder, replace=False) as new:
            collector = _Collector(names, documents, PairSpool(new))
            for chunk in _chunks(pairs.read()):
                collector.add(chunk)
            collector.check(pairs.place, allow_missing)
            _write(collector, names, documents, new)
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return CollectedLists(Dataset.from_file(str(folder / "candidates.arrow")), about["qrels"], about["counts"])


def _write(collector: "_Collector", queries: list[str], documents: DocumentTable, folder: Path) -> None:
    qrels: Qrels = {}
    features = SCORED_CANDIDATE_FEATURES if collector.scored else CANDIDATE_FEATURES
    rows = (_make_row(group, queries, documents, qrels) for group in collector.spool.groups())
    write_rows(rows, features, folder / "candidates.arrow")
    counts = collector.counts + collector.spool.counts  # without the zeros
    about = json.dumps({"qrels": qrels, "counts": counts})
    (folder / "about.json").write_text(about, encoding="utf-8")


class _Collector:
    """A spool that takes ids, and remembers those that it could not place."""

    def __init__(self, queries: list[str], documents: DocumentTable, spool: PairSpool):
        self.spool = spool
        self.counts: Counter[str] = Counter()
        self.unknown: dict[str, None] = {}
        self.lowest, self.highest = math.inf, -math.inf
        self._documents = documents
        self._positions = dict(zip(queries, range(len(queries)), strict=True))

    def add(self, pairs: list[Pair]) -> None:
        """Look up and spool pairs, at least one; count those of unknown queries and documents."""
        names, ids, *numbers = zip(*pairs, strict=True)
        queries = np.array([self._positions.get(name, -1) for name in names], np.int64)
        documents = self._find_documents(ids)
        labels, scores = np.array(numbers, np.float32)
        lost = (documents < 0) & (queries >= 0)
        self.unknown |= dict.fromkeys(map(ids.__getitem__, np.flatnonzero(lost)))
        self.counts["pairs"] += len(pairs)
        self.counts["pairs_dropped_of_unknown_queries"] += int((queries < 0).sum())
        self.counts["pairs_dropped_of_unknown_documents"] += int(lost.sum())
        placed = (documents >= 0) & (queries >= 0)
        if not np.isnan(scores[placed]).all():
            self.lowest = min(self.lowest, float(np.nanmin(scores[placed])))
            self.highest = max(self.highest, float(np.nanmax(scores[placed])))
        self.spool.add(queries[placed], documents[placed], labels[placed], scores[placed])

    def _find_documents(self, ids: Sequence[str]) -> np.ndarray:
        """Return the rows [n] of documents in the table, looking up each id once; −1 for unknown ids."""
        distinct = list(dict.fromkeys(ids))
        rows = dict(zip(distinct, self._documents.find(distinct).tolist(), strict=True))
        return np.fromiter(map(rows.__getitem__, ids), np.int64, len(ids))

    @property
    def scored(self) -> bool:
        """Tell whether any pair has a teacher score."""
        return self.lowest <= self.highest

    def check(self, name: str, allow_missing: bool) -> None:
        """Raise InputError for unknown documents, for no pair at all, and for a constant teacher."""
        if self.unknown and not allow_missing:
            raise InputError(
                f"{name}: names {len(self.unknown)} documents that the collection does not have "
                f"({preview(self.unknown)}); --allow_missing true leaves them out"
            )
        dropped = self.counts["pairs_dropped_of_unknown_queries"] + self.counts["pairs_dropped_of_unknown_documents"]
        if dropped == self.counts["pairs"]:
            raise InputError(f"{name}: none of its {dropped} pairs of query and document is in the collection")
        if self.scored and self.lowest == self.highest and self.counts["pairs"] - dropped > 1:
            raise InputError(f"{name}: all teacher scores are {self.lowest:g}; a constant teacher teaches nothing")


def _make_row(group: Group, queries: list[str], documents: DocumentTable, qrels: Qrels) -> dict:
    """Make the row of a query, scored or not, and enter its relevant documents in `qrels`."""
    query, ids = queries[group.query], documents.ids_at(group.documents)
    relevant = {ids[place]: float(group.labels[place]) for place in np.flatnonzero(group.labels > 0)}
    if relevant:
        qrels[query] = relevant
    return {"query_id": query, "document_ids": ids, "teacher_scores": group.scores}


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    pairs = iter(pairs)
    while chunk := list(islice(pairs, PAIRS_AT_ONCE)):
        yield chunk
