"""Which documents each query is trained or tested on: known positives, and candidates of any source."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from datasets import Dataset

from m3se.trainers.data.candidates import CandidateSource, RandomCandidates, query_generator
from m3se.trainers.data.schema import (
    ROW_FEATURES,
    SCORED_TRAINING_ROW_FEATURES,
    TRAINING_ROW_FEATURES,
    Collection,
    RankingLists,
)
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


Negatives = Literal["random", "top"]


def training_lists(
    collection: Collection,
    candidates: CandidateSource,
    documents_per_query: int,
    depth: int = 100,
    seed: int = 0,
    negatives: Negatives = "random",
    path: str | Path | None = None,
) -> RankingLists:
    """Lists of `documents_per_query` (K) documents: first the known positives, then negatives of the top `depth`.

    Of more than K − 1 positives the best labelled K − 1 are kept, so that every list has a negative; the column
    `positive_ids` names the others. Negatives are drawn without replacement ("random"; a query's draw depends on its
    id and `seed` only) or are the highest ranked ("top"). Queries without a positive, and queries with fewer
    candidates than K needs, are dropped and counted. With `path` the rows are streamed to that file.

    Raises InputError when K does not fit `depth`, or when no query is left, naming the one that came closest.
    """
    if negatives not in ("random", "top"):
        raise InputError(f"negatives: expected 'random' or 'top', got {negatives!r}")
    if not 2 <= documents_per_query <= depth + 1:
        expected = f"at least 2 (a positive and a negative) and at most depth + 1 = {depth + 1}"
        raise InputError(f"documents per query: expected {expected}, got {documents_per_query}")
    counts: Counter[str] = Counter()
    choose = _top if negatives == "top" else _drawn(seed)
    rows = _training_rows(collection, candidates, documents_per_query, depth, choose, counts)
    dataset = write_rows(rows, TRAINING_ROW_FEATURES, path)
    if len(dataset) == 0:
        raise InputError(f"{collection.name}: {_why_none(collection, candidates, documents_per_query, depth)}")
    options = {"candidates": candidates.name, "depth": depth, "negatives": negatives, "seed": seed}
    return make_lists(collection, dataset, counts, documents_per_query=documents_per_query, **options)


def candidate_lists(
    collection: Collection, candidates: CandidateSource, depth: int, path: str | Path | None = None
) -> RankingLists:
    """The top `depth` of every query as it is: a positive that is not in it stays outside, unjudged means label 0.

    Queries without any candidate are dropped and counted; so is the share of positives that the lists contain
    (`recall`, the mean over queries with a positive), which bounds what re-ranking can reach.
    """
    if depth < 1:
        raise InputError(f"depth: expected at least 1, got {depth}")
    counts: Counter[str] = Counter()
    recalls: list[float] = []

    def rows() -> Iterator[dict]:
        for query, ids in candidates.ranked(collection, list(collection.queries), depth):
            if positives := positives_of(collection.qrels.get(query, {})):
                recalls.append(len(set(ids) & set(positives)) / len(positives))
            if ids:
                yield make_row(collection, query, ids)
            else:
                counts["queries_dropped_without_candidates"] += 1

    dataset = write_rows(rows(), ROW_FEATURES, path)
    recall = float(np.mean(recalls)) if recalls else None
    return make_lists(collection, dataset, counts, candidates=candidates.name, depth=depth, recall=recall)


def pooled_lists(
    collection: Collection,
    candidates: CandidateSource,
    depth: int = 100,
    random: int = 100,
    seed: int = 0,
    path: str | Path | None = None,
) -> RankingLists:
    """The paper's evaluation pool for NQ: all positives, then the top `depth` others, then up to `random` drawn ones.

    Unlike re-ranking a candidate list, every positive is in reach.
    """
    chance = RandomCandidates(seed)
    wanted = depth + max(map(len, collection.qrels.values()), default=0)

    def rows() -> Iterator[dict]:
        for query, ids in candidates.ranked(collection, list(collection.queries), wanted):
            positives = positives_of(collection.qrels.get(query, {}))
            taken = set(positives)
            top = [document for document in ids if document not in taken][:depth]
            taken |= set(top)
            _, drawn = next(chance.ranked(collection, [query], random + len(taken)))
            others = [document for document in drawn if document not in taken][:random]
            yield make_row(collection, query, positives + top + others)

    dataset = write_rows(rows(), ROW_FEATURES, path)
    return make_lists(
        collection, dataset, Counter(), candidates=candidates.name, depth=depth, random=random, seed=seed
    )


def make_lists(collection: Collection, rows: Dataset, counts: Counter[str], **options) -> RankingLists:
    """Ranking lists with a report of the collection, the options, and what was counted."""
    kept = {reason: count for reason, count in counts.items() if count}
    report = {"collection": collection.report, "lists": {"rows": len(rows), **options, **kept}}
    return RankingLists(rows, collection.documents, report)


def positives_of(judged: dict[str, float]) -> list[str]:
    """Ids of the documents judged relevant (above 0), the most relevant first, equal ones in the qrels' order."""
    relevant = [document for document, label in judged.items() if label > 0]
    return sorted(relevant, key=lambda document: -judged[document])


def make_row(collection: Collection, query: str, ids: list[str]) -> dict:
    """The row of `query` with the documents `ids`, labelled by the judgments; unjudged means 0."""
    judged = collection.qrels.get(query, {})
    labels = [max(judged.get(document, 0.0), 0.0) for document in ids]
    return {"query_id": query, "query": collection.queries[query], "document_ids": ids, "labels": labels}


Choice = Callable[[str, list[str], int], list[str]]  # query id, negatives best first, how many → as many of them


def _top(query: str, negatives: list[str], count: int) -> list[str]:
    return negatives[:count]


def _drawn(seed: int) -> Choice:
    def draw(query: str, negatives: list[str], count: int) -> list[str]:
        places = query_generator(query, seed).choice(len(negatives), count, replace=False)
        return [negatives[place] for place in places]

    return draw


def _training_rows(
    collection: Collection,
    candidates: CandidateSource,
    size: int,
    depth: int,
    choose: Choice,
    counts: Counter[str],
) -> Iterator[dict]:
    queries = _with_positives(collection)
    counts["queries_dropped_without_positive"] = len(collection.queries) - len(queries)
    for query, ids in candidates.ranked(collection, queries, depth):
        positives = positives_of(collection.qrels[query])
        kept, left_out = positives[: size - 1], positives[size - 1 :]
        negatives = [document for document in ids if document not in set(positives)]
        if len(kept) + len(negatives) < size:
            counts["queries_dropped_with_too_few_candidates"] += 1
            continue
        counts["positives_dropped_over_k"] += len(left_out)
        row = make_row(collection, query, kept + choose(query, negatives, size - len(kept)))
        yield row | {"positive_ids": left_out}


def _with_positives(collection: Collection) -> list[str]:
    return [query for query in collection.queries if positives_of(collection.qrels.get(query, {}))]


def _why_none(collection: Collection, candidates: CandidateSource, size: int, depth: int) -> str:
    queries = _with_positives(collection)
    if not queries:
        return f"none of {len(collection.queries)} queries has a positive document"
    query, ids = max(candidates.ranked(collection, queries, depth), key=lambda found: len(found[1]))
    return (
        f"{size} documents per query are more than the candidates give: of {len(queries)} queries with a positive the "
        f"richest, {query!r}, has {len(ids)} candidates (depth {depth}, {len(collection.documents)} documents)"
    )


def teacher_lists(
    collection: Collection, documents_per_query: int | None = 20, path: str | Path | None = None
) -> RankingLists:
    """Build lists of K documents: every positive, then the candidates the teacher scores highest (the paper's §5).

    At most K − 1 positives come first, best labelled first; the column `positive_ids` names known positives beyond the
    list. Documents without a teacher score come last. None as `documents_per_query` keeps all candidates. Queries
    whose candidates hold no positive, or nothing else, are dropped and counted (unless nothing is judged at all);
    lists that are shorter than K are kept and counted.

    Raises InputError when the candidates have no teacher scores, K is below 2, or no query is left.
    """
    if documents_per_query is not None and documents_per_query < 2:
        raise InputError(f"documents per query: expected at least 2, got {documents_per_query}")
    if collection.candidates is None or "teacher_scores" not in collection.candidates.column_names:
        raise InputError(f"{collection.name}: its lists have no teacher scores; run score_with_teacher.py on them")
    counts: Counter[str] = Counter()
    rows = _teacher_rows(collection, documents_per_query, counts)
    dataset = write_rows(rows, SCORED_TRAINING_ROW_FEATURES, path)
    if len(dataset) == 0:
        raise InputError(f"{collection.name}: no list has both a positive and a negative ({dict(counts)})")
    return make_lists(
        collection, dataset, counts, candidates="highest teacher scores", documents_per_query=documents_per_query
    )


def _teacher_rows(collection: Collection, size: int | None, counts: Counter[str]) -> Iterator[dict]:
    listed = 0
    for candidates in collection.candidates:
        query = candidates["query_id"]
        if query not in collection.queries:
            continue
        listed += 1
        scores = dict(zip(candidates["document_ids"], candidates["teacher_scores"], strict=True))
        row = _teacher_row(collection, query, scores, size)
        if collection.qrels and not 0 < np.count_nonzero(row["labels"]) < len(row["labels"]):
            counts["lists_dropped_without_positive_or_negative"] += 1
            continue
        counts["lists_shorter_than_k"] += size is not None and len(row["labels"]) < size
        counts["positives_dropped_over_k"] += sum(document in scores for document in row["positive_ids"])
        yield row
    counts["queries_dropped_without_list"] = len(collection.queries) - listed


def _teacher_row(collection: Collection, query: str, scores: dict[str, float], size: int | None) -> dict:
    judged = collection.qrels.get(query, {})
    positives = positives_of(judged)
    listed = [document for document in positives if document in scores][: None if size is None else size - 1]
    negatives = [document for document in scores if document not in set(positives)]
    ids = (listed + sorted(negatives, key=_descending(scores)))[:size]
    row = make_row(collection, query, ids)
    row["teacher_scores"] = [scores[document] for document in ids]
    row["positive_ids"] = [document for document in positives if document not in set(listed)]
    return row


def _descending(scores: dict[str, float]) -> Callable[[str], tuple[bool, float]]:
    return lambda document: (math.isnan(scores[document]), -scores[document])
