"""Teachers without a model: a file of the scores, or of the ranks alone, that any system gave, and BM25."""

import logging
from abc import ABC, abstractmethod
from hashlib import blake2b, file_digest
from itertools import chain
from pathlib import Path

import numpy as np

from m3se.trainers.data.bm25 import BM25Index
from m3se.trainers.data.readers.text_files import read_lines
from m3se.trainers.data.readers.trec import is_trec_run, parse_score, read_ranked, read_run
from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError, shorten


logger = logging.getLogger(__name__)

# Targets of a document by its rank, 1 the best, among `count` documents.
RANK_TARGETS = {
    "reciprocal": lambda rank, count: 1 / rank,
    "linear": lambda rank, count: (count - rank + 1) / count,
}


class ListTeacher(ABC):
    """A teacher that scores the pairs of lists by their ids, all at once: there is no model, and nothing to cache."""

    dtype = None

    @abstractmethod
    def column(self, lists: RankingLists) -> np.ndarray:
        """Return the scores of all pairs of the lists, one after the other: [pairs] float32, NaN without a score."""


class RunTeacher(ListTeacher):
    """A run as a teacher: scores are joined by the ids of query and document.

    Attributes:
        name, fingerprint: the file, and a hash of its bytes and of how it is read.
        rank_targets: the rule that made scores of ranks; None for the run's own scores.
        run: query id → document id → score.
        kind, scale, dtype, settings: those of a `PairScorer`, as far as a run has them.
    """

    kind = "run"

    def __init__(self, name: str, rank_targets: str | None = None):
        """Read a run: TREC's six columns, `query document score`, or `query document rank` with `rank_targets`.

        Raises:
            InputError: another rule, a file that is no run, or one of ranks alone without a rule.
        """
        if rank_targets not in (None, *RANK_TARGETS):
            raise InputError(f"rank_targets: expected {' or '.join(RANK_TARGETS)}, got {rank_targets!r}")
        self.name = name
        self.rank_targets = rank_targets
        path = Path(name)
        if rank_targets is not None:
            self.run = rank_scores(path, rank_targets)
        else:
            self.run = read_run(path) if is_trec_run(path) else read_scores(path)
        with open(path, "rb") as content:
            digest = file_digest(content, lambda: blake2b(digest_size=16)).hexdigest()
        self.fingerprint = f"{digest}-{rank_targets}" if rank_targets else digest
        self.scale = f"run {self.fingerprint}"
        self.settings = {"kind": self.kind, "rank_targets": rank_targets}

    def column(self, lists: RankingLists) -> np.ndarray:
        """Return the scores of all pairs of the lists, one after the other: [pairs] float32, NaN for the others.

        Raises:
            InputError: the run has none of the pairs.
        """
        scores: list[float] = []
        for rows in lists.rows.select_columns(["query_id", "document_ids"]).iter(1_000):
            for query, documents in zip(rows["query_id"], rows["document_ids"], strict=True):
                targets = self.run.get(query, {})
                scores += [targets.get(document, np.nan) for document in documents]
        column = np.array(scores, dtype=np.float32)
        unscored = int(np.isnan(column).sum())
        if unscored == len(column):
            raise InputError(f"teacher {self.name}: none of the {len(column):,} pairs of the lists is in this run")
        logger.info(
            "teacher %s: %s pairs scored, %s without", self.name, f"{len(column) - unscored:,}", f"{unscored:,}"
        )
        return column


class BM25Teacher(ListTeacher):
    """Lucene's BM25 over the documents that lists come from.

    Attributes:
        name, kind: "bm25".
        fingerprint, scale: its parameters.
        settings: what reports say of it.
    """

    name = kind = "bm25"

    def __init__(self, cache_dir: str | Path | None = None, **parameters):
        """Take the parameters of `BM25Index.build`; indexes are kept in `cache_dir`."""
        self.cache_dir = cache_dir
        self.parameters = parameters
        described = " ".join(f"{name} {value}" for name, value in sorted(parameters.items()))
        self.fingerprint = self.scale = f"{self.name} {described}".strip()
        self.settings = {"kind": self.kind, **parameters}

    def column(self, lists: RankingLists) -> np.ndarray:
        """Return the scores of all pairs of the lists, one after the other: [pairs] float32, 0 without a shared word.

        Words are weighed by how many of the documents beside the lists have them: all of a collection, and of a folder
        of lists those that are in one.

        Raises:
            InputError: BM25 cannot index the documents.
        """
        index = BM25Index.build(lists.documents, cache_dir=self.cache_dir, **self.parameters)
        scores = index.scores(lists.rows["query"][:], lists.rows["document_ids"][:])
        return np.fromiter(chain.from_iterable(scores), dtype=np.float32)


def rank_scores(path: Path, rule: str) -> dict[str, dict[str, float]]:
    """Read a run by its order alone: query id → document id → target of its rank by the rule."""
    ranked: dict[str, list[str]] = {}
    for query, document in read_ranked(path):
        ranked.setdefault(query, []).append(document)
    target, run = RANK_TARGETS[rule], {}
    for query, documents in ranked.items():
        run[query] = {document: target(rank, len(documents)) for rank, document in enumerate(documents, start=1)}
    return run


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Read lines `query document score`: query id → document id → score.

    Raises:
        InputError: naming file and line: other columns, a score that is none, a pair that occurs twice; or only whole
            numbers that count up from 0 or 1, which are ranks.
    """
    run: dict[str, dict[str, float]] = {}
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 3:
            layouts = "'query Q0 document rank score tag' or 'query document score'"
            raise InputError(f"{path}, line {number}: expected {layouts}, got {shorten(line)}")
        query, document, score = columns
        documents = run.setdefault(query, {})
        if document in documents:
            raise InputError(f"{path}, line {number}: document {shorten(document)} occurs twice for {shorten(query)}")
        documents[document] = parse_score(score, path, number)
    if not run:
        raise InputError(f"{path}: the run is empty")
    if all(are_ranks(list(documents.values())) for documents in run.values()):
        raise InputError(
            f"{path}: has ranks and no scores; say with --rank_targets reciprocal or linear what they mean"
        )
    return run


def are_ranks(scores: list[float]) -> bool:
    """Tell whether numbers are 1, 2, 3 … or 0, 1, 2 … in any order."""
    return sorted(scores) in (list(range(1, len(scores) + 1)), list(range(len(scores))))
