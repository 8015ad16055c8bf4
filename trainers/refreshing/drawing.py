"""New negatives for ranking lists, drawn from a ranking of the whole collection."""

import logging
from collections.abc import Iterator

from datasets import Dataset

from m3se.trainers.data import Collection, RankingLists, mine_negatives
from m3se.trainers.data.candidates import identical_ids, query_generator
from m3se.trainers.evaluation.runs import Run, without_identical
from m3se.trainers.refreshing.student_search import StudentSearch
from m3se.trainers.storage.arrow import write_rows


logger = logging.getLogger(__name__)

QUERIES_AT_ONCE = 10_000


def draw_lists(
    lists: RankingLists, search: StudentSearch, depth: int, identical: set[str], seed: int, step: int
) -> RankingLists:
    """Return the lists with other negatives, drawn from the student's best documents, and without teacher scores.

    Query, positives and length of a list stay; see `redraw`.

    Args:
        lists: the lists as they were before training.
        search: ranks the collection with the student as it is.
        depth: best documents of a query that negatives are drawn from.
        identical: ids of queries that a document has too; it is passed over.
        seed, step: the draw of a query depends on these, its id and its ranking.
    """
    rows = lists.rows.with_format(None)
    features = rows.features.copy()
    for name in rows.column_names:
        if name.startswith("teacher_scores"):
            del features[name]

    def drawn() -> Iterator[dict]:
        """Yield the new rows, searching for some queries at a time."""
        for start in range(0, len(rows), QUERIES_AT_ONCE):
            block = rows.select(range(start, min(start + QUERIES_AT_ONCE, len(rows))))
            negatives = rank_negatives(block, search, depth, identical)
            for row in block:
                new = redraw(row, negatives[row["query_id"]], seed, step)
                yield {name: new[name] for name in features}

    return RankingLists(write_rows(drawn(), features), lists.documents, lists.report)


def rank_negatives(rows: Dataset, search: StudentSearch, depth: int, identical: set[str]) -> dict[str, list[str]]:
    """Rank the documents of every query that are not known to be relevant, among its best `depth`.

    Args:
        rows: the lists of some queries.
        search: ranks the collection.
        depth: ranks to look at; positives count.
        identical: ids of queries that a document has too; it is passed over, and does not count.
    """
    queries, qrels = {}, {}
    for row in rows:
        queries[row["query_id"]] = row["query"]
        qrels[row["query_id"]] = dict.fromkeys(relevant_documents(row), 1.0)
    run: Run = without_identical(search.best(queries, depth + bool(identical)), identical, depth)
    return mine_negatives(run, qrels, count=depth, depth=depth).negatives


def redraw(row: dict, ranked: list[str], seed: int, step: int) -> dict:
    """Return a row with its positives, then as many others as it had, drawn without replacement.

    Args:
        row: a list; its documents with a label above 0 stay, in their order.
        ranked: what its negatives are drawn from.
        seed, step: of the draw, which depends on these, the query's id and `ranked` only.
    """
    positives = [place for place, label in enumerate(row["labels"]) if label > 0]
    size = len(row["labels"]) - len(positives)
    places = query_generator(f"{step} {row['query_id']}", seed).choice(len(ranked), size, replace=False)
    ids = list(map(row["document_ids"].__getitem__, positives)) + list(map(ranked.__getitem__, places))
    labels = list(map(row["labels"].__getitem__, positives)) + [0.0] * size
    return row | {"document_ids": ids, "labels": labels}


def relevant_documents(row: dict) -> set[str]:
    """Return the documents that a row knows to be relevant, in its list or beyond."""
    pairs = zip(row["document_ids"], row["labels"], strict=True)
    return {document for document, label in pairs if label > 0}.union(row.get("positive_ids") or ())


def find_identical(lists: RankingLists) -> set[str]:
    """Return the ids of queries that are documents too, as `identical_ids` finds them in a collection."""
    rows = lists.rows.with_format(None)
    qrels = {row["query_id"]: dict.fromkeys(relevant_documents(row), 1.0) for row in rows}
    queries = dict(zip(rows["query_id"], rows["query"], strict=True))
    return identical_ids(Collection("lists", lists.documents, queries, qrels))


def compare_draws(before: Dataset, after: Dataset) -> dict:
    """Compare the negatives of a draw with those that the same lists had before it.

    Returns:
        `new_negatives`, the share that a list did not have before; `distinct_negatives` and `distinct_before`, how
        many different documents all lists together have. Far fewer than before are hubs, found for every query.
    """
    new = total = 0
    distinct: set[str] = set()
    distinct_before: set[str] = set()
    for old, row in zip(before.with_format(None), after.with_format(None), strict=True):
        negatives = set(row["document_ids"]) - relevant_documents(row)
        new += len(negatives - set(old["document_ids"]))
        total += len(negatives)
        distinct |= negatives
        distinct_before |= set(old["document_ids"]) - relevant_documents(row)
    counts = {"distinct_negatives": len(distinct), "distinct_before": len(distinct_before)}
    return {"new_negatives": new / max(total, 1)} | counts


def log_draw(report: dict) -> None:
    """Log what a draw brought, and warn where the same documents came back for many queries.

    Args:
        report: `step`, `depth`, and what `compare_draws` returns.
    """
    step, distinct, before = report["step"], report["distinct_negatives"], report["distinct_before"]
    message = "step %s: negatives drawn from the best %s documents; %.0f%% of them are new"
    logger.info(message, step, report["depth"], 100 * report["new_negatives"])
    if distinct < before / 2:
        logger.warning(
            "step %s: the student finds the same documents for many queries, %s where there were %s; "
            "in_batch_negatives would teach it to search",
            step,
            f"{distinct:,}",
            f"{before:,}",
        )
