"""The grade from which a document counts as relevant, applied where labels enter what is trained on."""

from dataclasses import replace
from itertools import chain

from m3se.trainers.data.schema import Collection, RankingLists, hash_subset, positives
from m3se.trainers.errors import InputError


def relevant_from(collection: Collection, level: int) -> Collection:
    """Return the collection with label 0 for every document that is graded below `level`; other grades stay.

    Everything that takes labels above 0 for positives (lists, mining, losses) then counts from `level` on. Level 1
    changes nothing, so labels between 0 and 1 stay positive.

    Raises:
        InputError: no document is graded so high.
    """
    if level <= 1:
        return collection
    qrels = {}
    for query, judged in collection.qrels.items():
        qrels[query] = {document: grade if grade >= level else 0.0 for document, grade in judged.items()}
    report = collection.report | {"relevance_level": level}
    if not any(map(positives, qrels.values())):
        highest = max(chain.from_iterable(map(dict.values, collection.qrels.values())), default=0)
        raise InputError(
            f"{collection.name}: no document has a grade of {level} or more (--relevance_level); the highest is "
            f"{highest:g}"
        )
    return replace(collection, qrels=qrels, report=report)


def labelled_only(collection: Collection, count: int | None) -> Collection:
    """Return the collection with the judgments of `count` of its queries, the first by hash; None: of all.

    Raises:
        InputError: the number is below 1.
    """
    if count is None:
        return collection
    if count < 1:
        raise InputError(f"--labelled_queries: expected at least 1, got {count}")
    labelled = hash_subset(collection.queries.keys() & collection.qrels.keys(), count)
    qrels = {query: judged for query, judged in collection.qrels.items() if query in labelled}
    report = collection.report | {"labelled_queries": len(labelled)}
    return replace(collection, qrels=qrels, report=report)


def lists_relevant_from(lists: RankingLists, level: int) -> RankingLists:
    """Return the lists with label 0 for every document graded below `level`, as `relevant_from` does.

    Raises:
        InputError: no document of any list is graded so high.
    """
    if level <= 1:
        return lists

    def lower(row: dict) -> dict:
        """Return the labels of a row, those below the level as 0."""
        return {"labels": [label if label >= level else 0.0 for label in row["labels"]]}

    rows = lists.rows.map(lower, keep_in_memory=True)
    if not any(map(any, rows["labels"])):
        raise InputError(f"no document of the lists has a label of {level} or more (--relevance_level)")
    return replace(lists, rows=rows, report=lists.report | {"relevance_level": level})
