"""Which documents each query is trained or tested on: known positives, BM25's best, drawn or taken from the top."""

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np

from trainers.data.arrow import dataset_of
from trainers.data.bm25 import BM25Index
from trainers.data.schema import ROW_FEATURES, Collection, RankingLists
from trainers.errors import InputError


Negatives = Literal["random", "top"]


def training_lists(
    collection: Collection,
    index: BM25Index,
    documents_per_query: int,
    depth: int = 100,
    seed: int = 0,
    negatives: Negatives = "random",
    path: str | Path | None = None,
) -> RankingLists:
    """Lists of `documents_per_query` (K) documents: first the known positives, then negatives from BM25's top `depth`.

    Of more than K − 1 positives the best labelled K − 1 are kept, so that every list has a negative. Negatives are
    drawn without replacement ("random"; a query's draw depends on its id and `seed` only) or are the highest ranked
    ("top"). Queries without a positive, and queries for which BM25 finds fewer documents than K needs, are dropped and
    counted. With `path` the rows are streamed to that file.

    Raises InputError when K does not fit `depth`, or when no query is left, naming the one that came closest.
    """
    if negatives not in ("random", "top"):
        raise InputError(f"negatives: expected 'random' or 'top', got {negatives!r}")
    if not 2 <= documents_per_query <= depth + 1:
        expected = f"at least 2 (a positive and a negative) and at most depth + 1 = {depth + 1}"
        raise InputError(f"documents per query: expected {expected}, got {documents_per_query}")
    counts: Counter[str] = Counter()
    rows = _training_rows(collection, index, documents_per_query, depth, seed, negatives, counts)
    dataset = dataset_of(rows, ROW_FEATURES, path)
    if len(dataset) == 0:
        raise InputError(f"{collection.name}: {_why_none(collection, index, documents_per_query, depth)}")
    options = {"documents_per_query": documents_per_query, "depth": depth, "negatives": negatives, "seed": seed}
    report = {"collection": collection.report, "lists": {"rows": len(dataset), **options, **counts}}
    return RankingLists(dataset, collection.documents, report)


def _why_none(collection: Collection, index: BM25Index, size: int, depth: int) -> str:
    with_positives = {query for query in collection.queries if positives_of(collection.qrels.get(query, {}))}
    if not with_positives:
        return f"none of {len(collection.queries)} queries has a positive document"
    query, ids = max(_ranked(collection, index, depth, with_positives), key=lambda found: len(found[1]))
    return (
        f"{size} documents per query are more than the candidates give: of {len(with_positives)} queries with a "
        f"positive the richest, {query!r}, has {len(ids)} candidates (depth {depth}, "
        f"{len(collection.documents)} documents)"
    )


def candidate_lists(
    collection: Collection, index: BM25Index, depth: int, path: str | Path | None = None
) -> RankingLists:
    """BM25's top `depth` of every query as it is: a positive that BM25 misses stays outside, unjudged means label 0.

    Queries without any candidate are dropped and counted; so is the share of positives that the lists contain
    (`recall`, the mean over queries with a positive), which bounds what re-ranking can reach.
    """
    if depth < 1:
        raise InputError(f"depth: expected at least 1, got {depth}")
    counts: Counter[str] = Counter()
    recalls: list[float] = []

    def rows() -> Iterator[dict]:
        for query, ids in _ranked(collection, index, depth):
            judged = collection.qrels.get(query, {})
            if positives := positives_of(judged):
                recalls.append(len(set(ids) & set(positives)) / len(positives))
            if not ids:
                counts["queries_dropped_without_candidates"] += 1
                continue
            yield row_of(collection, query, ids)

    dataset = dataset_of(rows(), ROW_FEATURES, path)
    recall = float(np.mean(recalls)) if recalls else None
    report = {"collection": collection.report, "lists": {"rows": len(dataset), "depth": depth, "recall": recall}}
    report["lists"] |= counts
    return RankingLists(dataset, collection.documents, report)


def positives_of(judged: dict[str, float]) -> list[str]:
    """Ids of the documents judged relevant (above 0), the most relevant first, equal ones in the qrels' order."""
    relevant = [document for document, label in judged.items() if label > 0]
    return sorted(relevant, key=lambda document: -judged[document])


def row_of(collection: Collection, query: str, ids: list[str]) -> dict:
    """The row of `query` with the documents `ids`, labelled by the judgments; unjudged means 0."""
    judged = collection.qrels.get(query, {})
    labels = [max(judged.get(document, 0.0), 0.0) for document in ids]
    return {"query_id": query, "query": collection.queries[query], "document_ids": ids, "labels": labels}


def query_generator(query: str, seed: int) -> np.random.Generator:
    """The random numbers of one query: the same whatever other queries there are and in which order they come."""
    return np.random.default_rng([seed, int.from_bytes(blake2b(query.encode(), digest_size=8).digest(), "big")])


def _training_rows(
    collection: Collection,
    index: BM25Index,
    size: int,
    depth: int,
    seed: int,
    negatives: Negatives,
    counts: Counter[str],
) -> Iterator[dict]:
    with_positives = {query for query in collection.queries if positives_of(collection.qrels.get(query, {}))}
    counts["queries_dropped_without_positive"] = len(collection.queries) - len(with_positives)
    for query, ids in _ranked(collection, index, depth, with_positives):
        positives = positives_of(collection.qrels[query])
        others = [document for document in ids if document not in set(positives)]
        kept = positives[: size - 1]
        wanted = size - len(kept)
        if len(others) < wanted:
            counts["queries_dropped_with_too_few_candidates"] += 1
            continue
        counts["positives_dropped_over_k"] += len(positives) - len(kept)
        if negatives == "random":
            drawn = query_generator(query, seed).choice(len(others), wanted, replace=False)
            others = [others[i] for i in drawn]
        yield row_of(collection, query, kept + others[:wanted])


def _ranked(
    collection: Collection, index: BM25Index, depth: int, queries: set[str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """(query id, BM25's top `depth`) of the collection's queries (or those of them in `queries`)."""
    names = [query for query in collection.queries if queries is None or query in queries]
    ids = index.documents.ids
    found = index.positions([collection.queries[query] for query in names], depth)
    for query, (positions, _) in zip(names, found, strict=True):
        yield query, ids[positions.tolist()] if len(positions) else []
