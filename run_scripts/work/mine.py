"""Hard negatives: what a trained dual encoder ranks high although it is not relevant."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from m3se.run_scripts.mine import MiningArguments
from m3se.run_scripts.work.encodings import open_encoding
from m3se.run_scripts.work.list_making import filter_table, score_filters
from m3se.run_scripts.work.models import compile_searcher, load_searcher
from m3se.trainers.data import Collection, RankingLists, ScoreFilters, mine_negatives, read_data, relevant_from
from m3se.trainers.data.candidates import identical_ids
from m3se.trainers.data.lists import make_row
from m3se.trainers.data.mining import Mined
from m3se.trainers.data.schema import ROW_FEATURES, positives
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import Run, check_collection, without_identical, write_run_lines
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.retrieval.search import retrieve
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.storage.atomic import complete_file
from m3se.trainers.teacher.annotate import Teacher, annotate
from m3se.trainers.teacher.loading import load_teacher


logger = logging.getLogger(__name__)

QUERIES_AT_ONCE = 10_000


def main(arguments: MiningArguments) -> None:
    """Mine negatives for every query and write them."""
    check(arguments)
    scorer, backend = load_searcher(arguments)
    teacher = load_teacher(arguments.teacher) if arguments.teacher else None
    collection = read_data(
        arguments.data,
        arguments.split,
        arguments.cache_dir,
        qrels=arguments.qrels,
        allow_missing=arguments.allow_missing,
        unlabelled=arguments.unlabelled,
    )
    check_collection(collection)
    collection = relevant_from(collection, arguments.relevance_level)
    compile_searcher(scorer, backend, collection.documents, arguments.cache_dir)
    encoded = open_encoding(arguments, scorer, collection.documents)
    identical = set() if arguments.keep_identical_ids else identical_ids(collection)
    runs = retrieve_blocks(scorer, collection.queries, encoded, identical, arguments.depth)
    counts, filtered = write_mined(runs, collection, teacher, arguments)
    if teacher is not None:
        print(filter_table(guard(arguments), filtered))
    if identical:
        counts["documents_with_the_id_of_their_query_passed_over"] = len(identical)
    for reason, count in counts.items():
        logger.info("%s: %s", reason.replace("_", " "), f"{count:,}")
    logger.info("wrote %s", arguments.output)


def check(arguments: MiningArguments) -> None:
    """Raise InputError for options that fit nothing, before any model is loaded."""
    mine_negatives({}, {}, arguments.count, arguments.skip, arguments.depth)
    if (bounds := score_filters(arguments).bounds()) and not arguments.teacher:
        raise InputError(f"--{next(iter(bounds))} is the teacher's: give --teacher too")


def guard(arguments: MiningArguments) -> ScoreFilters:
    """Return the filters of the options, with a margin of 0 where none is given."""
    filters = score_filters(arguments)
    return filters if filters.margin is not None else replace(filters, margin=0.0)


def retrieve_blocks(
    scorer: DenseScorer, queries: dict[str, str], encoded: EmbeddedCollection, identical: set[str], depth: int
) -> Iterator[Run]:
    """Search for `QUERIES_AT_ONCE` queries at a time, in their order: memory does not grow with their number.

    Args:
        scorer: embeds the queries.
        queries: query id → text.
        encoded: the documents, embedded.
        identical: ids of queries that a document has too; it is passed over.
        depth: documents of a query.
    """
    items = list(queries.items())
    for start in range(0, len(items), QUERIES_AT_ONCE):
        block = dict(items[start : start + QUERIES_AT_ONCE])
        run_ = retrieve(scorer, block, encoded, depth + bool(identical))
        yield without_identical(run_, identical, depth)


def write_mined(
    runs: Iterator[Run], collection: Collection, teacher: Teacher | None, arguments: MiningArguments
) -> tuple[Counter[str], Counter[str]]:
    """Mine run by run into one file, which appears only when complete and not empty.

    Returned are the counts of what was mined and passed over, and those of the teacher's filters.

    Raises:
        InputError: there is no negative for any query.
    """
    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter(negatives=0)
    filtered: Counter[str] = Counter()
    with complete_file(output) as new, open(new, "w", encoding="utf-8") as file:
        for run_ in runs:
            mined = mine(run_, collection, teacher, arguments)
            negatives = {}
            for query, ids in mined.negatives.items():
                negatives[query] = {document: run_[query][document] for document in ids}
            write_run_lines(file, negatives, "mined")
            filtered += mined.filtered
            counts += Counter(mined.counts) + Counter(negatives=sum(map(len, mined.negatives.values())))
        if not counts["negatives"]:
            raise InputError(f"no negative left for any of {len(collection.queries)} queries: {dict(counts)}")
    return counts, filtered


def mine(run_: Run, collection: Collection, teacher: Teacher | None, arguments: MiningArguments) -> Mined:
    """Mine the negatives of the queries of one run."""
    scores = score_run(run_, collection, teacher, arguments.cache_dir) if teacher else None
    return mine_negatives(
        run_, collection.qrels, arguments.count, arguments.skip, arguments.depth, scores, guard(arguments)
    )


def score_run(run_: Run, collection: Collection, teacher: Teacher, cache_dir: str) -> Run:
    """Score the documents of a run and all positives with the teacher, through the score cache."""
    rows = (
        make_row(collection, query, list(dict.fromkeys([*positives(collection.qrels.get(query, {})), *scores])))
        for query, scores in run_.items()
    )
    lists = RankingLists(write_rows(rows, ROW_FEATURES), collection.documents)
    scored = annotate(lists, [teacher], Path(cache_dir) / "teacher_scores").rows
    return {row["query_id"]: dict(zip(row["document_ids"], row["teacher_scores"], strict=True)) for row in scored}
