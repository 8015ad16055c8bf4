"""Where candidates come from: BM25, the lists that a source brought along, or chance. All answer to `ranked`."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from m3se.trainers.data.bm25 import BM25Index
from m3se.trainers.data.readers.assemble import cache_root
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError


CandidateKind = Literal["auto", "own", "bm25", "random"]


class CandidateSource(Protocol):
    """Anything that proposes documents for queries."""

    name: str

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[tuple[str, list[str]]]:
        """(query id, at most `depth` distinct document ids, best first) of every query id, in their order."""
        ...


class OwnCandidates:
    """The lists of the collection, in the order of its source. Raises InputError when it has none."""

    name = "own lists"

    def __init__(self, collection: Collection):
        if collection.candidates is None:
            raise InputError(f"{collection.name}: brings no lists of its own; use BM25 candidates, or name a file")
        self._rows = collection.candidates
        self._places = {query: place for place, query in enumerate(self._rows["query_id"])}

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[tuple[str, list[str]]]:
        for query in queries:
            place = self._places.get(query)
            yield query, self._rows[place]["document_ids"][:depth] if place is not None else []


class RandomCandidates:
    """Documents drawn uniformly from the collection, without replacement; a query's depend on its id and `seed`."""

    name = "random"

    def __init__(self, seed: int = 0):
        self._seed = seed

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[tuple[str, list[str]]]:
        documents = collection.documents
        for query in queries:
            generator = query_generator(query, self._seed)
            drawn = generator.choice(len(documents), min(depth, len(documents)), replace=False)
            yield query, documents.ids_at(drawn)


def query_generator(query: str, seed: int) -> np.random.Generator:
    """The random numbers of one query: the same whatever other queries there are and in which order they come."""
    return np.random.default_rng([seed, int.from_bytes(blake2b(query.encode(), digest_size=8).digest(), "big")])


def candidate_source(
    collection: Collection,
    kind: CandidateKind = "auto",
    cache_dir: str | Path | None = None,
    seed: int = 0,
    k1: float = 0.9,
    b: float = 0.4,
    stemmer: str | None = "english",
) -> CandidateSource:
    """The source of this kind; "auto" is the collection's own lists if it brings some, BM25 otherwise.

    `k1`, `b`, `stemmer` are BM25's, whose index is kept in `cache_dir`. Raises InputError for another kind.
    """
    if kind not in ("auto", "own", "bm25", "random"):
        raise InputError(f"candidates: expected auto, own, bm25 or random, got {kind!r}")
    if kind == "random":
        return RandomCandidates(seed)
    if kind == "own" or (kind == "auto" and collection.candidates is not None):
        return OwnCandidates(collection)
    return BM25Index.build(collection.documents, k1, b, stemmer, cache_root(cache_dir))
