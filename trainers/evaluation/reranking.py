"""The lists that are re-ranked, and their share of the relevant documents."""

from collections import Counter
from dataclasses import dataclass

from m3se.trainers.data import ROW_FEATURES, Collection, RankingLists
from m3se.trainers.data.candidates import CandidateSource, is_same, ranked_candidates
from m3se.trainers.data.lists import make_row
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.run_metrics import Qrels, evaluate_run
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.storage.arrow import write_rows


@dataclass
class Candidates:
    """Documents to re-rank for the queries of `qrels`: `lists` of at most `depth`.

    `recall` is the share of the relevant documents that they hold, a bound on what re-ranking can reach (None: not
    known). `run` has the scores that `ranker` found them with, if they are known. `identical` counts the documents
    that were left out because they have the id of their query.
    """

    name: str
    lists: RankingLists
    qrels: Qrels
    depth: int
    recall: float | None = None
    ranker: str = ""
    run: Run | None = None
    identical: int = 0


def take_candidates(
    collection: Collection,
    source: CandidateSource,
    depth: int,
    relevance_level: int = 1,
    keep_identical_ids: bool = False,
) -> Candidates:
    """Take the candidates of every query of a collection from a source.

    Args:
        collection: queries with their judgments.
        source: proposes the documents.
        depth: documents of a query; lists in no order stay whole.
        relevance_level: grade from which recall counts a document.
        keep_identical_ids: keep documents with the id of their query.

    Raises:
        InputError: the source has no document for any query, or a grade is not a whole number.
    """
    counts: Counter[str] = Counter()
    queries = list(collection.queries)
    rows, ranks, run, longest = [], {}, {}, depth
    for query, ids, scores in ranked_candidates(source, collection, queries, depth, keep_identical_ids, counts):
        if ids:
            rows.append(make_row(collection, query, ids))
        ranks[query] = {document: -rank for rank, document in enumerate(ids)}
        if source.ranker:
            run[query] = dict(zip(ids, scores, strict=True))
        longest = max(longest, len(ids))
    if not rows:
        raise InputError(
            f"{collection.name}: {source.name}: not a document for any of the {len(queries)} judged queries"
        )
    qrels = {query: collection.qrels[query] for query in queries}
    recall = evaluate_run(ranks, qrels, None, [f"Recall@{longest}"], relevance_level).values[f"Recall@{longest}"]
    lists = RankingLists(write_rows(rows, ROW_FEATURES), collection.documents)
    candidates = Candidates(f"the {source.name}", lists, qrels, longest, recall)
    candidates.identical = counts["identical_ids_left_out"]
    if source.ranker:
        candidates.name, candidates.ranker, candidates.run = f"the top {depth} of {source.ranker}", source.ranker, run
    return candidates


def take_lists(lists: RankingLists, name: str, depth: int, keep_identical_ids: bool = False) -> Candidates:
    """Take ranking lists whole, judged by their own labels: they were cut when they were made, positives first.

    `depth` is what was asked for, at least. Raises InputError when no list has a document.
    """
    rows, qrels, identical = [], {}, 0
    for row in lists.rows.select_columns(list(ROW_FEATURES)):
        labels = dict(zip(row["document_ids"], row["labels"], strict=True))
        query = row["query_id"]
        suspect = not keep_identical_ids and labels.get(query, 1) <= 0
        if suspect and is_same(query, row["query"], lists.documents.texts([query])[0]):
            del labels[query]
            identical += 1
        if labels:
            rows.append(row | {"document_ids": list(labels), "labels": list(labels.values())})
            qrels[query] = labels
    if not rows:
        raise InputError(f"{name}: holds no list with a document")
    longest = max(depth, *map(len, qrels.values()))
    lists = RankingLists(write_rows(rows, ROW_FEATURES), lists.documents)
    return Candidates(f"the lists of {name}", lists, qrels, longest, identical=identical)


def run_from_scores(lists: RankingLists, scores: list[list[float]]) -> Run:
    """Return the scores of every row as a run."""
    run = {}
    for row, values in zip(lists.rows, scores, strict=True):
        run[row["query_id"]] = dict(zip(row["document_ids"], values, strict=True))
    return run
