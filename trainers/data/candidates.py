"""Sources of candidates: BM25, the lists that a collection brought along, a run file, or chance."""

from collections import Counter
from collections.abc import Collection as Ids
from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from m3se.trainers.data.bm25 import BM25Index, Words
from m3se.trainers.data.readers.trec import read_run
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError, preview
from m3se.trainers.storage.cache import cache_root


CandidateKind = Literal["auto", "own", "bm25", "random"]


class RankedList(NamedTuple):
    """The candidates of a query, best first, and the scores that ranked them; None where no score is known."""

    query: str
    document_ids: list[str]
    scores: list[float] | None


class CandidateSource(Protocol):
    """Anything that proposes documents for queries.

    `name` stands in reports. `ranker` is the name of the system whose scores are given, empty when none are. `ranked`
    lists of a source that is not `is_ranked` have an order that says nothing, and are never cut.
    """

    name: str
    ranker: str
    is_ranked: bool

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[RankedList]:
        """Yield at most `depth` distinct documents for every query id, in their order."""
        ...


class OwnCandidates:
    """The lists of the collection, in the order of its source; whole where that order is no ranking.

    Raises InputError when it has none.
    """

    ranker = ""

    def __init__(self, collection: Collection, name: str = "own lists"):
        if collection.candidates is None:
            raise InputError(f"{collection.name}: brings no lists of its own; use BM25 candidates, or name a file")
        self.name = name
        self.is_ranked = collection.candidates_ranked
        self._rows = collection.candidates
        self._places = dict(zip(self._rows["query_id"][:], range(len(self._rows)), strict=True))

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[RankedList]:
        """Yield the list of every query, empty where it has none."""
        for query in queries:
            place = self._places.get(query)
            ids = [] if place is None else self._rows[place]["document_ids"]
            yield RankedList(query, ids[:depth] if self.is_ranked else ids, None)


class RandomCandidates:
    """Documents drawn uniformly from the collection, without replacement; a query's depend on its id and `seed`."""

    name = "random"
    ranker = ""
    is_ranked = True

    def __init__(self, seed: int = 0):
        self._seed = seed

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[RankedList]:
        """Yield `depth` documents for every query, or all when there are fewer."""
        documents = collection.documents
        for query in queries:
            generator = query_generator(query, self._seed)
            drawn = generator.choice(len(documents), min(depth, len(documents)), replace=False)
            yield RankedList(query, documents.ids_at(drawn), None)


class RunFile:
    """The ranking of a TREC run file, by its scores.

    `allow_missing` leaves out documents that the collection does not have. Raises InputError when the file cannot be
    read or ranks no query of the collection.
    """

    is_ranked = True

    def __init__(self, path: str | Path, collection: Collection, allow_missing: bool = False):
        self.name = self.ranker = Path(path).stem
        self._path = path
        self._allow_missing = allow_missing
        self._run = {query: scores for query, scores in read_run(path).items() if query in collection.queries}
        if not self._run:
            queries = preview(collection.queries)
            raise InputError(f"{path}: none of its queries is among those of {collection.name} ({queries})")

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[RankedList]:
        """Yield the best `depth` documents of every query. Raises InputError when the collection lacks one of them."""
        tops: dict[str, dict[str, float]] = {}
        for query in queries:
            tops[query] = dict(islice(self._run.get(query, {}).items(), depth))
        listed = dict.fromkeys(chain.from_iterable(tops.values()))
        missing = dict.fromkeys(collection.documents.missing(list(listed)))
        if missing and not self._allow_missing:
            raise InputError(
                f"{self._path}: {len(missing)} documents are not in {collection.name} ({preview(missing)}); "
                "--allow_missing true leaves them out"
            )
        for query, scores in tops.items():
            for document in scores.keys() & missing.keys():
                del scores[document]
            yield RankedList(query, list(scores), list(scores.values()))


def ranked_candidates(
    source: CandidateSource,
    collection: Collection,
    queries: list[str],
    depth: int,
    keep_identical_ids: bool = False,
    counts: Counter[str] | None = None,
) -> Iterator[RankedList]:
    """Yield the candidates of every query, without the document that is the query itself.

    Args:
        source: proposes the documents.
        collection: has the queries and documents.
        queries: ids of queries of the collection.
        depth: candidates of a query, at most; lists that are not ranked stay whole.
        keep_identical_ids: keep the document that has the id of its query, which BEIR leaves out.
        counts: `identical_ids_left_out` is counted there.
    """
    identical = set() if keep_identical_ids else identical_ids(collection, queries)
    counts = Counter() if counts is None else counts
    # One document more, in place of the one left out. Other random documents would be drawn for another number.
    wanted = depth + bool(identical and not isinstance(source, RandomCandidates))
    for query, ids, scores in source.ranked(collection, queries, wanted):
        has_itself = query in identical and query in ids
        counts["identical_ids_left_out"] += has_itself
        if has_itself:
            place = ids.index(query)
            ids, scores = ids[:place] + ids[place + 1 :], scores and scores[:place] + scores[place + 1 :]
        if source.is_ranked:
            ids, scores = ids[:depth], scores and scores[:depth]
        yield RankedList(query, ids, scores)


def identical_ids(collection: Collection, queries: Ids[str] | None = None) -> set[str]:
    """Return the ids of queries that are documents too, as in ArguAna and Quora (default: of all queries).

    Numbers are ids of queries and documents by coincidence, as in MS MARCO: of these the texts must agree too. A query
    whose own document is judged relevant to it is not returned, since there the document is an answer.
    """
    names = list(collection.queries if queries is None else queries)
    rows = {}
    for query, row in zip(names, collection.documents.find(names).tolist(), strict=True):
        if row >= 0 and collection.qrels.get(query, {}).get(query, 0) <= 0:
            rows[query] = row
    texts = collection.documents.texts_at(list(rows.values())) if rows else []
    identical = set()
    for query, text in zip(rows, texts, strict=True):
        if is_same(query, collection.queries[query], text):
            identical.add(query)
    return identical


def is_same(name: str, query: str, document: str) -> bool:
    """Tell whether a query and a document of the same name are the same thing."""
    if not name.isdecimal():
        return True
    query, document = " ".join(query.casefold().split()), " ".join(document.casefold().split())
    return query in document or document in query


def query_generator(query: str, seed: int) -> np.random.Generator:
    """Return the random numbers of one query: the same whatever other queries there are, in any order."""
    return np.random.default_rng([seed, int.from_bytes(blake2b(query.encode(), digest_size=8).digest(), "big")])


def candidate_source(
    collection: Collection,
    kind: CandidateKind = "auto",
    cache_dir: str | Path | None = None,
    seed: int = 0,
    k1: float = 0.9,
    b: float = 0.4,
    stemmer: str | None = "english",
    tokenizer: Words = "words",
) -> CandidateSource:
    """Return the source of this kind; "auto" is the collection's own lists if it brings some, BM25 otherwise.

    Args:
        collection: has the documents.
        kind: "auto", "own", "bm25" or "random".
        cache_dir: where BM25's index is kept.
        seed: of random candidates.
        k1, b, stemmer, tokenizer: of BM25, as `BM25Index.build` takes them.

    Raises:
        InputError: there is no such kind, or the collection has no lists, or BM25 cannot index it.
    """
    if kind not in ("auto", "own", "bm25", "random"):
        raise InputError(f"candidates: expected auto, own, bm25 or random, got {kind!r}")
    if kind == "random":
        return RandomCandidates(seed)
    if kind == "own" or (kind == "auto" and collection.candidates is not None):
        return OwnCandidates(collection)
    return BM25Index.build(collection.documents, k1, b, stemmer, cache_root(cache_dir), tokenizer)
