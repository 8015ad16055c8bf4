"""The lists that are re-ranked, where they come from, and how much of the relevant documents they hold."""

from dataclasses import dataclass
from pathlib import Path

from m3se.trainers.data import ROW_FEATURES, BM25Index, Collection, RankingLists
from m3se.trainers.data.lists import make_row
from m3se.trainers.errors import InputError, preview
from m3se.trainers.evaluation.run_metrics import Qrels, evaluate_run
from m3se.trainers.evaluation.runs import Run, read_run, top
from m3se.trainers.storage.arrow import write_rows


@dataclass
class Candidates:
    """`lists` to re-rank for the queries of `qrels`. `recall` is the share of the relevant documents that they hold,
    a bound on what re-ranking can reach (None: not known). `run` has the scores that `ranker` found them with, if
    they are known."""

    name: str
    lists: RankingLists
    qrels: Qrels
    recall: float | None
    ranker: str = ""
    run: Run | None = None


def bm25_candidates(collection: Collection, index: BM25Index, depth: int, relevance_level: int = 1) -> Candidates:
    """BM25's best `depth` documents of every query."""
    return lists_from_run("BM25", bm25_run(collection, index, depth), collection, depth, relevance_level)


def bm25_run(collection: Collection, index: BM25Index, depth: int) -> Run:
    """BM25's best `depth` documents of every query with their scores."""
    found = index.search(list(collection.queries.values()), depth)
    return {
        query: dict(zip(ids, scores, strict=True))
        for query, ids, scores in zip(collection.queries, *found, strict=True)
    }


def file_candidates(path: str | Path, collection: Collection, depth: int, relevance_level: int = 1) -> Candidates:
    """The best `depth` documents of a TREC run file; queries that the collection lacks are left out.

    Raises InputError when no query or not every document of the run is in the collection.
    """
    run = {query: scores for query, scores in read_run(path).items() if query in collection.queries}
    if not run:
        known = preview(collection.queries)
        raise InputError(f"{path}: none of its queries is among those of {collection.name} ({known})")
    run = top(run, depth)
    if missing := collection.documents.missing(list({name for scores in run.values() for name in scores})):
        raise InputError(f"{path}: {len(missing)} documents are not in {collection.name} ({preview(missing)})")
    return lists_from_run(Path(path).stem, run, collection, depth, relevance_level)


def brought_candidates(collection: Collection, name: str, depth: int, relevance_level: int = 1) -> Candidates:
    """The lists that came with the data, cut to `depth`. Raises InputError when none did."""
    if collection.candidates is None:
        raise InputError(f"{collection.name}: the data bring no lists of their own; expected bm25 or a file of them")
    lists = {
        row["query_id"]: dict.fromkeys(row["document_ids"][:depth], 0.0)
        for row in collection.candidates.select_columns(["query_id", "document_ids"])
        if row["query_id"] in collection.queries
    }
    if not any(lists.values()):
        raise InputError(f"{name}: has no list for a judged query of {collection.name}")
    found = lists_from_run("", lists, collection, depth, relevance_level)
    return Candidates(f"the lists of {name}", found.lists, found.qrels, found.recall)


def list_candidates(lists: RankingLists, name: str, depth: int, queries: set[str] | None = None) -> Candidates:
    """Ranking lists as they are, cut to `depth`, judged by their own labels: what no list holds is not known."""
    kept = [row for row, query in enumerate(lists.rows["query_id"]) if queries is None or query in queries]
    rows = lists.rows.select(kept).select_columns(list(ROW_FEATURES))
    rows = write_rows(({**row, **cut(row, depth)} for row in rows if row["document_ids"]), ROW_FEATURES)
    if len(rows) == 0:
        raise InputError(f"{name}: holds no list with a document")
    qrels = {row["query_id"]: dict(zip(row["document_ids"], row["labels"], strict=True)) for row in rows}
    return Candidates(f"the lists of {name}", RankingLists(rows, lists.documents), qrels, None)


def lists_from_run(ranker: str, run: Run, collection: Collection, depth: int, relevance_level: int) -> Candidates:
    """The documents of a run as lists to re-rank, and the share of the relevant ones that they hold."""
    rows = write_rows(
        (make_row(collection, query, list(scores)) for query, scores in run.items() if scores), ROW_FEATURES
    )
    qrels = {query: collection.qrels[query] for query in collection.queries}
    measure = f"Recall@{depth}"
    recall = evaluate_run(run, qrels, measures=[measure], relevance_level=relevance_level).values[measure]
    name = f"the top {depth} of {ranker}"
    return Candidates(name, RankingLists(rows, collection.documents), qrels, recall, ranker, run)


def run_from_scores(lists: RankingLists, scores: list[list[float]]) -> Run:
    """What a scorer said about every row, as a run."""
    return {
        row["query_id"]: dict(zip(row["document_ids"], values, strict=True))
        for row, values in zip(lists.rows, scores, strict=True)
    }


def cut(row: dict, depth: int) -> dict:
    return {"document_ids": row["document_ids"][:depth], "labels": row["labels"][:depth]}
