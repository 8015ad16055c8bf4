"""Lists of what a teacher has scored: the paper's grouping (§5), and other lists of the same length every epoch."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from m3se.trainers.data.candidates import query_generator
from m3se.trainers.data.lists import make_lists, positives_of
from m3se.trainers.data.schema import SCORED_TRAINING_ROW_FEATURES, Collection, RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


def teacher_lists(
    collection: Collection, documents_per_query: int | None = 20, path: str | Path | None = None
) -> RankingLists:
    """Of the candidates of every query, its positives and the documents with the highest teacher scores, K in all.

    That is how the paper makes lists of triples. Positives come first, best labelled first, at most K − 1; the column
    `positive_ids` names known positives beyond the list. Then by teacher score, unknown ones last. None keeps all.
    Queries whose candidates hold no positive, or nothing else, are dropped and counted (unless nothing is judged at
    all); lists that are shorter than K are kept and counted.

    Raises InputError when the candidates have no teacher scores, K is below 2, or no query is left.
    """
    if documents_per_query is not None and documents_per_query < 2:
        raise InputError(f"documents per query: expected at least 2, got {documents_per_query}")
    if collection.candidates is None or "teacher_scores" not in collection.candidates.column_names:
        raise InputError(f"{collection.name}: its lists have no teacher scores; run score_with_teacher.py on them")
    counts: Counter[str] = Counter()
    rows = _rows(collection, documents_per_query, counts)
    dataset = write_rows(rows, SCORED_TRAINING_ROW_FEATURES, path)
    if len(dataset) == 0:
        raise InputError(f"{collection.name}: no list has both a positive and a negative ({dict(counts)})")
    return make_lists(
        collection, dataset, counts, candidates="highest teacher scores", documents_per_query=documents_per_query
    )


def _rows(collection: Collection, size: int | None, counts: Counter[str]) -> Iterator[dict]:
    listed = 0
    for candidates in collection.candidates:
        query = candidates["query_id"]
        if query not in collection.queries:
            continue
        listed += 1
        scores = dict(zip(candidates["document_ids"], candidates["teacher_scores"], strict=True))
        row = _row(collection, query, scores, size)
        if collection.qrels and not 0 < np.count_nonzero(row["labels"]) < len(row["labels"]):
            counts["lists_dropped_without_positive_or_negative"] += 1
            continue
        counts["lists_shorter_than_k"] += size is not None and len(row["labels"]) < size
        counts["positives_dropped_over_k"] += sum(document in scores for document in row["positive_ids"])
        yield row
    counts["queries_dropped_without_list"] = len(collection.queries) - listed


def _row(collection: Collection, query: str, scores: dict[str, float], size: int | None) -> dict:
    judged = collection.qrels.get(query, {})
    positives = positives_of(judged)
    kept = [document for document in positives if document in scores][: None if size is None else size - 1]
    others = sorted((document for document in scores if document not in set(positives)), key=_descending(scores))
    ids = (kept + others)[:size]
    return {
        "query_id": query,
        "query": collection.queries[query],
        "document_ids": ids,
        "labels": [max(judged.get(document, 0.0), 0.0) for document in ids],
        "teacher_scores": [scores[document] for document in ids],
        "positive_ids": [document for document in positives if document not in set(kept)],
    }


def _descending(scores: dict[str, float]) -> Callable[[str], tuple[bool, float]]:
    return lambda document: (math.isnan(scores[document]), -scores[document])


def sample_row(row: dict, size: int, seed: int, epoch: int) -> dict:
    """A row with at most `size` of its documents, other ones in every epoch: its positives, at most size − 1, and
    negatives drawn without replacement. A row that is short enough comes back as it is.

    A pure function of row, seed and epoch, for the collator to call. Raises InputError when `size` is below 2.
    """
    if size < 2:
        raise InputError(f"documents per query: expected at least 2, got {size}")
    if len(row["document_ids"]) <= size:
        return row
    labels = np.asarray(row["labels"])
    generator = query_generator(f"{epoch} {row['query_id']}", seed)
    positives = generator.permutation(np.flatnonzero(labels > 0))[: size - 1]
    negatives = generator.permutation(np.flatnonzero(labels <= 0))[: size - len(positives)]
    places = [*np.sort(positives), *np.sort(negatives)]
    lists = [name for name in row if name in ("document_ids", "labels") or name.startswith("teacher_scores")]
    sampled = row | {name: [row[name][place] for place in places] for name in lists}
    dropped = [row["document_ids"][place] for place in np.flatnonzero(labels > 0) if place not in places]
    return sampled | {"positive_ids": [*row.get("positive_ids", ()), *dropped]}
