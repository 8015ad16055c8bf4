"""Lists that a source brings along, as a stream of judged pairs → one row of candidates per query."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from datasets import Dataset

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.readers.assemble import Qrels, build_collection, cache_root
from m3se.trainers.data.readers.spool import Group, PairSpool
from m3se.trainers.data.schema import CANDIDATE_FEATURES, SCORED_CANDIDATE_FEATURES, Collection
from m3se.trainers.errors import InputError, preview
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import reusable


logger = logging.getLogger(__name__)

PAIRS_AT_ONCE = 100_000


class Pair(NamedTuple):
    """A query, a document, its relevance where the source says it (0: not, or not said), a teacher's score or NaN."""

    query: str
    document: str
    label: float = 0.0
    score: float = math.nan


@dataclass
class CollectedLists:
    """Candidates by query, the relevant pairs among them, and what was dropped or repeated, by reason."""

    candidates: Dataset
    qrels: Qrels
    counts: dict[str, int]


def collect_lists(
    name: str,
    pairs: Callable[[], Iterable[Pair]],
    queries: Iterable[str],
    documents: DocumentTable,
    key: list,
    cache_dir: str | Path | None,
    allow_missing: bool = False,
) -> CollectedLists:
    """Collect `pairs` by query, streamed to the cache, or opened there if they were collected under the same `key`
    for the same queries and documents. The documents of a query stay in the order of the source.

    Pairs of a query that is not among `queries` are dropped and counted.

    Raises:
        InputError: unknown documents (unless `allow_missing`: dropped and counted), no pair left, or teacher scores
            that are all the same. `name` is what the message calls the source.
    """
    names = list(queries)
    key = [name, key, documents.fingerprint, names, allow_missing]
    folder = cache_root(cache_dir) / f"lists-{blake2b(json.dumps(key).encode(), digest_size=8).hexdigest()}"
    if reusable(folder):
        logger.info("%s: reusing the lists in %s", name, folder)
    else:
        with complete_folder(folder, replace=False) as new:
            collector = _Collector(names, documents, PairSpool(new))
            for some in _chunks(pairs()):
                collector.add(some)
            collector.check(name, allow_missing)
            _write(collector, names, documents, new)
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return CollectedLists(Dataset.from_file(str(folder / "candidates.arrow")), about["qrels"], about["counts"])


def collection_from_lists(
    name: str,
    documents: DocumentTable,
    queries: dict[str, str],
    qrels: Qrels,
    brought: CollectedLists,
    report: dict,
    allow_missing: bool = False,
) -> Collection:
    """As `build_collection`, with the lists as its candidates.

    Lists with teacher scores need no judgments: without any, every label is 0 and only the losses that need no
    positive (softmax_distillation, mse) learn from them.
    """
    report = report | brought.counts
    if qrels or "teacher_scores" not in brought.candidates.column_names:
        collection = build_collection(name, documents, queries, qrels, report, allow_missing)
    else:
        logger.warning("%s: nothing says which documents are relevant; all labels are 0", name)
        listed = set(brought.candidates["query_id"])
        texts = {query: text for query, text in queries.items() if query in listed}
        report |= {"documents": len(documents), "queries": len(texts), "judgments": 0, "positives_per_query": 0.0}
        collection = Collection(name, documents, texts, {}, report)
    collection.candidates = brought.candidates
    return collection


def _write(collector: "_Collector", queries: list[str], documents: DocumentTable, folder: Path) -> None:
    qrels: Qrels = {}
    features = SCORED_CANDIDATE_FEATURES if collector.scored else CANDIDATE_FEATURES
    rows = (_row(group, queries, documents, qrels) for group in collector.spool.groups())
    rows = ({column: row[column] for column in features} for row in rows)
    write_rows(rows, features, folder / "candidates.arrow")
    counts = {reason: count for reason, count in (collector.counts + collector.spool.counts).items() if count}
    about = json.dumps({"qrels": qrels, "counts": counts})
    (folder / "about.json").write_text(about, encoding="utf-8")


class _Collector:
    """Turns ids into positions, and remembers what it could not place."""

    def __init__(self, queries: list[str], documents: DocumentTable, spool: PairSpool):
        self.spool = spool
        self.counts: Counter[str] = Counter()
        self.unknown: dict[str, None] = {}
        self.lowest, self.highest = math.inf, -math.inf
        self._documents = documents
        self._positions = {query: position for position, query in enumerate(queries)}

    def add(self, pairs: list[Pair]) -> None:
        queries = np.fromiter((self._positions.get(pair.query, -1) for pair in pairs), np.int64, len(pairs))
        ids = {document: place for place, document in enumerate(dict.fromkeys(pair.document for pair in pairs))}
        found = self._documents.find(list(ids))
        documents = found[np.fromiter((ids[pair.document] for pair in pairs), np.int64, len(pairs))]
        scores = np.fromiter((pair.score for pair in pairs), np.float32, len(pairs))
        labels = np.fromiter((pair.label for pair in pairs), np.float32, len(pairs))
        self.unknown |= dict.fromkeys(pairs[i].document for i in np.flatnonzero((documents < 0) & (queries >= 0)))
        self.counts["pairs"] += len(pairs)
        self.counts["pairs_dropped_of_unknown_queries"] += int((queries < 0).sum())
        self.counts["pairs_dropped_of_unknown_documents"] += int(((documents < 0) & (queries >= 0)).sum())
        known = (documents >= 0) & (queries >= 0)
        if not np.isnan(scores[known]).all():
            self.lowest = min(self.lowest, float(np.nanmin(scores[known])))
            self.highest = max(self.highest, float(np.nanmax(scores[known])))
        self.spool.add(queries[known], documents[known], labels[known], scores[known])

    @property
    def scored(self) -> bool:
        return self.lowest <= self.highest

    def check(self, name: str, allow_missing: bool) -> None:
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


def _row(group: Group, queries: list[str], documents: DocumentTable, qrels: Qrels) -> dict:
    query, ids = queries[group.query], documents.ids_at(group.documents)
    relevant = {ids[i]: float(group.labels[i]) for i in np.flatnonzero(group.labels > 0)}
    if relevant:
        qrels[query] = relevant
    return {"query_id": query, "document_ids": ids, "teacher_scores": group.scores}


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    pairs = iter(pairs)
    while some := list(islice(pairs, PAIRS_AT_ONCE)):
        yield some
