"""Lists of documents that queries are trained or tested on: known positives, and candidates of any source."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from datasets import Dataset

from m3se.trainers.data.candidates import CandidateSource, identical_ids, query_generator, ranked_candidates
from m3se.trainers.data.schema import (
    ROW_FEATURES,
    SCORED_TRAINING_ROW_FEATURES,
    TRAINING_ROW_FEATURES,
    Collection,
    RankingLists,
    positives,
)
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


Negatives = Literal["random", "top", "all"]


def training_lists(
    collection: Collection,
    candidates: CandidateSource,
    documents_per_query: int,
    depth: int = 100,
    seed: int = 0,
    negatives: Negatives = "random",
    path: str | Path | None = None,
    keep_identical_ids: bool = False,
    unlabelled: bool = False,
) -> RankingLists:
    """Build lists of `documents_per_query` (K) documents: known positives, then negatives of the top `depth`.

    Of more than K − 1 positives the best labelled K − 1 are kept, so that every list has a negative; the column
    `positive_ids` names the others. Queries without a positive, and queries with fewer candidates than K needs, are
    dropped and counted.

    Args:
        collection: the queries and their judgments.
        candidates: where negatives come from.
        documents_per_query: K.
        depth: negatives are among this many best ranked candidates; among all where candidates are not ranked.
        seed: of the random negatives; a query's draw depends on its id and `seed` only.
        negatives: "random", drawn without replacement, "top", the highest ranked, or "all" of them, in their order, so
            that lists are longer than K.
        path: file that the rows are streamed to.
        keep_identical_ids: let a document with the id of its query be a negative.
        unlabelled: queries without a positive get a list too, of candidates with label 0.

    Raises:
        InputError: K does not fit `depth`, "top" is asked of candidates that are not ranked, or no query is left; the
            message names the query that came closest.
    """
    labelled = [query for query in collection.queries if positives(collection.qrels.get(query, {}))]
    queries = list(collection.queries) if unlabelled else labelled
    _check_negatives(collection, candidates, negatives)
    _check_size(documents_per_query, depth, len(queries) > len(labelled))
    if not queries:
        raise InputError(f"{collection.name}: none of {len(collection.queries)} queries has a positive document")
    counts: Counter[str] = Counter(queries_dropped_without_positive=len(collection.queries) - len(queries))
    lists = ranked_candidates(candidates, collection, queries, depth, keep_identical_ids, counts)
    sizes: dict[str, int] = {}
    rows = _training_rows(collection, lists, documents_per_query, _choice(negatives, seed), counts, sizes)
    dataset = write_rows(rows, TRAINING_ROW_FEATURES, path)
    if len(dataset) == 0:
        richest = max(sizes, key=sizes.__getitem__)
        raise InputError(
            f"{collection.name}: {documents_per_query} documents per query are more than the candidates give: of "
            f"{len(queries)} queries{'' if unlabelled else ' with a positive'} the richest, {richest!r}, has "
            f"{sizes[richest]} candidates (depth {depth}, {len(collection.documents)} documents)"
        )
    options = {"candidates": candidates.name, "depth": depth, "negatives": negatives, "seed": seed}
    return make_lists(collection, dataset, counts, documents_per_query=documents_per_query, **options)


def _check_negatives(collection: Collection, candidates: CandidateSource, negatives: str) -> None:
    """Raise InputError for an unknown choice of negatives, or for the top of candidates in no order."""
    if negatives not in get_args(Negatives):
        raise InputError(f"negatives: expected 'random' or 'top', got {negatives!r}")
    if negatives == "top" and not candidates.is_ranked:
        raise InputError(
            f"negatives: top needs candidates that are ranked; the {candidates.name} of {collection.name} are in no "
            "order, so only random ones can be taken"
        )


def _check_size(size: int, depth: int, unlabelled: bool) -> None:
    """Raise InputError when no list of `size` documents can be made of `depth` candidates.

    Args:
        size: K.
        depth: candidates of a query.
        unlabelled: there are queries without a positive, whose documents are all candidates.
    """
    if unlabelled:
        highest, limit = depth, f"depth = {depth} (all are candidates where a query has no positive)"
    else:
        highest, limit = depth + 1, f"depth + 1 = {depth + 1}"
    if not 2 <= size <= highest:
        expected = f"at least 2 (a positive and a negative) and at most {limit}"
        raise InputError(f"documents per query: expected {expected}, got {size}")


def candidate_lists(
    collection: Collection,
    candidates: CandidateSource,
    depth: int,
    path: str | Path | None = None,
    keep_identical_ids: bool = False,
) -> RankingLists:
    """Take the top `depth` of every query as it is: a positive outside it stays outside, unjudged means label 0.

    Queries without any candidate are dropped and counted; so is the share of positives that the lists contain
    (`recall`, the mean over queries with a positive), which bounds what re-ranking can reach.

    Args:
        collection: the queries and their judgments.
        candidates: where the documents come from.
        depth: documents of a query.
        path: file that the rows are streamed to.
        keep_identical_ids: keep documents with the id of their query.

    Raises:
        InputError: `depth` is below 1, or no query has a candidate.
    """
    if depth < 1:
        raise InputError(f"depth: expected at least 1, got {depth}")
    counts: Counter[str] = Counter()
    recalls: list[float] = []

    def rows() -> Iterator[dict]:
        """Yield the row of every query that has a candidate."""
        queries = list(collection.queries)
        for query, ids, _ in ranked_candidates(candidates, collection, queries, depth, keep_identical_ids, counts):
            if relevant := positives(collection.qrels.get(query, {})):
                recalls.append(len(set(ids) & set(relevant)) / len(relevant))
            if ids:
                yield make_row(collection, query, ids)
            else:
                counts["queries_dropped_without_candidates"] += 1

    dataset = write_rows(rows(), ROW_FEATURES, path)
    if len(dataset) == 0:
        raise InputError(
            f"{collection.name}: {candidates.name} finds no document for any of {len(collection.queries)} queries"
        )
    recall = float(np.mean(recalls)) if recalls else None
    return make_lists(collection, dataset, counts, candidates=candidates.name, depth=depth, recall=recall)


def teacher_lists(
    collection: Collection,
    documents_per_query: int | None = 20,
    path: str | Path | None = None,
    keep_identical_ids: bool = False,
    unlabelled: bool = False,
) -> RankingLists:
    """Build lists of K documents: every positive, then the candidates that the teacher scores highest (§5).

    The paper makes lists of triples that way. Positives come first, best labelled first, at most K − 1; the column
    `positive_ids` names known positives beyond the list. Then by teacher score, unknown ones last. None keeps all.
    Queries whose candidates hold no positive, or nothing else, are dropped and counted (unless nothing is judged at
    all); lists that are shorter than K are kept and counted. A document with the id of its query is left out, unless
    it is judged relevant or `keep_identical_ids`. With `unlabelled`, queries of which no positive is known stay, with
    label 0 for every document.

    Args:
        collection: the queries, their judgments and their scored candidates.
        documents_per_query: K.
        path: file that the rows are streamed to.
        keep_identical_ids: keep documents with the id of their query.
        unlabelled: keep queries of which no positive is known.

    Raises:
        InputError: the candidates have no teacher scores, K is below 2, or no query is left.
    """
    if documents_per_query is not None and documents_per_query < 2:
        raise InputError(f"documents per query: expected at least 2, got {documents_per_query}")
    if collection.candidates is None or "teacher_scores" not in collection.candidates.column_names:
        raise InputError(f"{collection.name}: its lists have no teacher scores; run score_with_teacher.py on them")
    counts: Counter[str] = Counter()
    identical = set() if keep_identical_ids else identical_ids(collection)
    rows = _scored_rows(collection, documents_per_query, identical, unlabelled, counts)
    dataset = write_rows(rows, SCORED_TRAINING_ROW_FEATURES, path)
    if len(dataset) == 0:
        raise InputError(f"{collection.name}: no list has both a positive and a negative ({dict(counts)})")
    return make_lists(
        collection, dataset, counts, candidates="highest teacher scores", documents_per_query=documents_per_query
    )


def make_lists(collection: Collection, rows: Dataset, counts: Counter[str], **options) -> RankingLists:
    """Return ranking lists with a report of the collection, the options, and what was counted."""
    report = {"collection": collection.report, "lists": {"rows": len(rows), **options, **+counts}}
    return RankingLists(rows, collection.documents, report)


def make_row(collection: Collection, query: str, ids: list[str]) -> dict:
    """Return the row of `query` with the documents `ids`, labelled by the judgments; unjudged means 0."""
    judged = collection.qrels.get(query, {})
    labels = [max(judged.get(document, 0.0), 0.0) for document in ids]
    return {"query_id": query, "query": collection.queries[query], "document_ids": ids, "labels": labels}


Choice = Callable[[str, list[str], int], list[str]]  # query id, negatives best first, how many → as many of them


def _choice(negatives: Negatives, seed: int) -> Choice:
    """Return the function that chooses negatives in this way."""
    return {"random": partial(_choose_random, seed=seed), "top": _choose_top, "all": _choose_all}[negatives]


def _choose_all(query: str, negatives: list[str], count: int) -> list[str]:
    return negatives


def _choose_top(query: str, negatives: list[str], count: int) -> list[str]:
    return negatives[:count]


def _choose_random(query: str, negatives: list[str], count: int, seed: int) -> list[str]:
    places = query_generator(query, seed).choice(len(negatives), count, replace=False)
    return [negatives[place] for place in places]


def _without(documents: Iterable[str], excluded: Iterable[str]) -> list[str]:
    """Return the documents that are not excluded, in their order."""
    excluded = set(excluded)
    return [document for document in documents if document not in excluded]


def _training_rows(
    collection: Collection,
    lists: Iterator[tuple],
    size: int,
    choose: Choice,
    counts: Counter[str],
    sizes: dict[str, int],
) -> Iterator[dict]:
    """Yield a row for every list that is long enough; the number of candidates of each goes into `sizes`."""
    for query, ids, _ in lists:
        sizes[query] = len(ids)
        relevant = positives(collection.qrels.get(query, {}))
        listed, beyond = relevant[: size - 1], relevant[size - 1 :]
        negatives = _without(ids, relevant)
        if len(listed) + len(negatives) < size:
            counts["queries_dropped_with_too_few_candidates"] += 1
            continue
        counts["positives_dropped_over_k"] += len(beyond)
        counts["lists_without_positive"] += not relevant
        row = make_row(collection, query, listed + choose(query, negatives, size - len(listed)))
        yield row | {"positive_ids": beyond}


def _scored_rows(
    collection: Collection, size: int | None, identical: set[str], unlabelled: bool, counts: Counter[str]
) -> Iterator[dict]:
    listed = 0
    for candidates in collection.candidates:
        query = candidates["query_id"]
        if query not in collection.queries:
            continue
        listed += 1
        scores = dict(zip(candidates["document_ids"], candidates["teacher_scores"], strict=True))
        if query in identical:
            counts["identical_ids_left_out"] += scores.pop(query, None) is not None
        row = _scored_row(collection, query, scores, size)
        is_unlabelled = unlabelled and len(row["labels"]) > 1 and not positives(collection.qrels.get(query, {}))
        counts["lists_without_positive"] += is_unlabelled
        if collection.qrels and not is_unlabelled and not 0 < np.count_nonzero(row["labels"]) < len(row["labels"]):
            counts["lists_dropped_without_positive_or_negative"] += 1
            continue
        counts["lists_shorter_than_k"] += size is not None and len(row["labels"]) < size
        counts["positives_dropped_over_k"] += len(scores.keys() & row["positive_ids"])
        yield row
    counts["queries_dropped_without_list"] = len(collection.queries) - listed


def _scored_row(collection: Collection, query: str, scores: dict[str, float], size: int | None) -> dict:
    relevant = positives(collection.qrels.get(query, {}))
    listed = list(filter(scores.__contains__, relevant))[: None if size is None else size - 1]
    negatives = _without(scores, relevant)
    negatives.sort(key=lambda document: (math.isnan(scores[document]), -scores[document]))
    row = make_row(collection, query, (listed + negatives)[:size])
    teacher_scores = list(map(scores.__getitem__, row["document_ids"]))
    return row | {"teacher_scores": teacher_scores, "positive_ids": _without(relevant, listed)}
