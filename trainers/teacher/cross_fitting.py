"""Teachers that have not seen the queries they score.

A teacher that scores its own training queries is surer there than anywhere else, and a student learns that. Trained on
parts (`train_teacher.py --folds`), each teacher scores only the queries of the other parts: cross-fitting (Dao et al.,
ICLR 2021).
"""

import json
import logging
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from tqdm import tqdm

from m3se.trainers.errors import InputError, shorten
from m3se.trainers.storage.query_hashes import HASHES, hash_queries, read_query_hashes
from m3se.trainers.teacher.pair_scorer import PairScorer


logger = logging.getLogger(__name__)


class CrossFitted:
    """The teachers of several folds, which act as one.

    A query is scored by those that were not trained on it: one of two, all but one of several, all for a new query.
    The mean of their scores is taken.

    Attributes:
        members, hashes: the teachers, and the hashes of the queries that each was trained on.
        The others are those of `PairScorer`.
    """

    def __init__(self, name: str, members: Sequence[PairScorer], hashes: Sequence[np.ndarray]):
        self.name = name
        self.members, self.hashes = list(members), list(hashes)
        self.kind, self.scale, self.dtype = members[0].kind, members[0].scale, members[0].dtype

    @property
    def fingerprint(self) -> str:
        """Return what identifies the scores."""
        fingerprints = " ".join(member.fingerprint for member in self.members)
        return blake2b(fingerprints.encode(), digest_size=16).hexdigest()

    @property
    def settings(self) -> dict:
        """Return what decides how texts are read and computed, for reports."""
        return {"folds": len(self.members), **self.members[0].settings}

    def parts(self, queries: Sequence[str]) -> Iterator[tuple[PairScorer, np.ndarray]]:
        """Yield each teacher that may score some of the queries, and which [n] bool.

        Raises:
            InputError: a query that all teachers were trained on.
        """
        unseen = [~is_trained_on(queries, hashes) for hashes in self.hashes]
        scored = np.any(unseen, axis=0)
        if not scored.all():
            query = queries[int(np.flatnonzero(~scored)[0])]
            raise InputError(f"teacher {self.name}: all its folds were trained on the query {shorten(query)}")
        for member, chosen in zip(self.members, unseen, strict=True):
            if chosen.any():
                yield member, chosen

    def score(self, queries: list[str], documents: list[str], bar: tqdm | None = None) -> np.ndarray:
        """Score pair i = (queries[i], documents[i]) -> float32 [n]; `bar` is advanced by each teacher."""
        total, count = np.zeros(len(queries)), np.zeros(len(queries))
        for member, chosen in self.parts(queries):
            rows = np.flatnonzero(chosen)
            unseen = [queries[row] for row in rows]
            total[rows] += member.score(unseen, [documents[row] for row in rows], bar=bar)
            count[rows] += 1
        return (total / count).astype(np.float32)


def fold_folders(name: str) -> list[Path]:
    """Find the folds of a folder that `train_teacher.py --folds` filled, in their order; none in any other.

    Raises:
        InputError: a fold is missing or not finished, or does not know its queries.
    """
    first = Path(name) / "fold-1"
    if not first.is_dir() or (Path(name) / "config.json").exists():
        return []
    record = first / "training.json"
    if not record.is_file():
        raise InputError(f"teacher {name}: {first} is not finished; run train_teacher.py again to go on")
    count = json.loads(record.read_text(encoding="utf-8"))["options"]["folds"]
    folders = [Path(name) / f"fold-{number}" for number in range(1, count + 1)]
    for folder in folders:
        for file in ("training.json", HASHES):
            if not (folder / file).is_file():
                raise InputError(f"teacher {name}: {folder} of {count} folds is not finished (it has no {file})")
    return folders


def fold_numbers(queries: Sequence[str], folds: int) -> np.ndarray:
    """Assign queries to folds 1 … `folds` by the hash of their text, so that equal queries fall into the same."""
    return (hash_queries(queries) % folds).astype(int) + 1


def is_trained_on(queries: Sequence[str], hashes: np.ndarray) -> np.ndarray:
    """Tell the queries whose hash is among those of a teacher's training queries: [n] bool."""
    return np.isin(hash_queries(queries), hashes)


def log_trained(name: str, queries: Sequence[str]) -> None:
    """Warn when a model is going to score queries that it was trained on, as far as its folder knows them."""
    hashes = read_query_hashes(Path(name)) if Path(name).is_dir() else None
    if hashes is None or len(queries) == 0:
        return
    share = is_trained_on(queries, hashes).mean()
    if share > 0:
        logger.warning(
            "teacher %s was trained on %.0f%% of these queries and is surer of them than of others; "
            "train_teacher.py --folds 2 avoids that",
            name,
            100 * share,
        )
