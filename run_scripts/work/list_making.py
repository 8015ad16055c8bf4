"""The lists that score_with_teacher.py scores: queries with their documents, read or made."""

import logging
from collections import Counter
from collections.abc import Set
from dataclasses import fields
from pathlib import Path

from m3se.run_scripts.cli.arguments import FilterArguments
from m3se.run_scripts.score_with_teacher import ListArguments
from m3se.run_scripts.work.candidate_sources import list_file, load_embedders, open_candidates
from m3se.run_scripts.work.synthetic import make_synthetic
from m3se.trainers.data import (
    Collection,
    RankingLists,
    ScoreFilters,
    Selection,
    choose_documents,
    labelled_only,
    lists_relevant_from,
    read_data,
    relevant_from,
    teacher_lists,
    training_lists,
)
from m3se.trainers.data.filters import LOOKED_AT, WITHOUT_SCORE
from m3se.trainers.data.readers.read_data import has_queries, read_without_queries
from m3se.trainers.data.schema import hash_subset
from m3se.trainers.data.synthetic_queries import add_queries, take_queries_out
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.markdown import table


logger = logging.getLogger(__name__)


def prepare_lists(arguments: ListArguments, scored_here: bool) -> RankingLists:
    """Read the lists of a folder, or make those of a collection's queries; of the selected queries.

    Args:
        arguments: the data, and how its lists are made.
        scored_here: a teacher is going to score them; otherwise the lists are those that the data bring scores for.

    Raises:
        InputError: the data cannot be read, or give no list.
    """
    check_selection(arguments)
    if (Path(arguments.data) / "data_report.json").is_file():
        lists = RankingLists.load(arguments.data)
        lists = lists.only(select_queries(set(lists.rows["query_id"]), lists.labelled(), arguments))
        return lists_relevant_from(lists, arguments.relevance_level)
    if arguments.synthetic_queries and not scored_here:
        raise InputError("--synthetic_queries: expected a --teacher; nothing else can score new queries")
    embedders = load_embedders(arguments)
    collection = read_collection(arguments)
    made = make_synthetic(collection, arguments) if arguments.synthetic_queries else None
    is_unlabelled = arguments.unlabelled or (arguments.unlabelled is None and not collection.qrels)
    is_unlabelled = is_unlabelled or arguments.labelled_queries is not None
    if not scored_here:
        size = None if is_by_score(arguments) else arguments.documents_per_query
        return teacher_lists(
            collection, size, keep_identical_ids=arguments.keep_identical_ids, unlabelled=bool(arguments.unlabelled)
        )
    if made is not None:
        collection = add_queries(collection, made)
    lists = training_lists(
        collection,
        open_candidates(collection, arguments, embedders),
        arguments.documents_per_query,
        depth=arguments.depth,
        seed=arguments.seed,
        negatives="all" if is_by_score(arguments) else arguments.negatives,
        keep_identical_ids=arguments.keep_identical_ids,
        unlabelled=is_unlabelled,
    )
    return lists if made is None else take_queries_out(lists, made)


def is_by_score(arguments: ListArguments) -> bool:
    """Tell whether the documents of a list are chosen by their teacher scores, so that more must be scored first."""
    return arguments.negatives == "stratified" or bool(score_filters(arguments).bounds())


def check_selection(arguments: ListArguments) -> None:
    """Raise InputError, before any work, for filters that cannot be and a choice of negatives that there is not."""
    score_filters(arguments)
    if arguments.negatives not in ("random", "top", "stratified"):
        raise InputError(f"--negatives: expected random, top or stratified, got {arguments.negatives!r}")


def score_filters(arguments: FilterArguments) -> ScoreFilters:
    """Return the filters of the options."""
    names = [field.name for field in fields(FilterArguments)]
    return ScoreFilters(**{name: getattr(arguments, name) for name in names})


def choose_scored(lists: RankingLists, arguments: ListArguments, scored_here: bool) -> RankingLists:
    """Cut scored lists to the documents that are to be trained on, and print what each filter dropped.

    Lists whose documents were chosen before they were scored come back as they are. Lists that the data brought with
    their scores stand by score, and negatives are the highest unless they are to be stratified.

    Raises:
        InputError: no list is left.
    """
    if not is_by_score(arguments):
        return lists
    by_order = arguments.negatives if scored_here or arguments.negatives == "stratified" else "top"
    filters = score_filters(arguments)
    options = {"seed": arguments.seed, "best_is_positive": arguments.pseudo_positives}
    chosen, filtered = choose_documents(lists, Selection(arguments.documents_per_query, by_order, filters, **options))
    if filters.bounds():
        print(filter_table(filters, filtered))
    for reason in ("lists_shorter_than_k", "lists_dropped_without_negative"):
        if count := chosen.report["lists"].get(reason):
            logger.info("%s: %s", reason.replace("_", " "), f"{count:,}")
    return chosen


def filter_table(filters: ScoreFilters, filtered: Counter[str]) -> str:
    """Return a table of what each filter dropped of the negatives that passed those before it."""
    rows, remaining = [], filtered[LOOKED_AT]
    for name, bound in {WITHOUT_SCORE: None, **filters.bounds()}.items():
        dropped = filtered[name]
        label = name if bound is None else f"{name} {bound:g}"
        if bound is not None or dropped:
            rows.append([label, f"{remaining:,}", f"{dropped:,}", f"{dropped / max(remaining, 1):.1%}"])
        remaining -= dropped
    return table(["filter by teacher score", "negatives looked at", "dropped", "share"], rows)


def read_collection(arguments: ListArguments) -> Collection:
    """Read the collection of --data, with the lists of a file of candidates; without queries, if all are made."""
    brought = list_file(arguments.candidates)
    if arguments.synthetic_queries and not has_queries(arguments.data, arguments.split):
        return read_without_queries(arguments.data, arguments.split, arguments.cache_dir)
    collection = read_data(
        arguments.data,
        arguments.split,
        cache_dir=arguments.cache_dir,
        candidates=brought,
        qrels=arguments.qrels,
        allow_missing=arguments.allow_missing,
        candidates_format=arguments.candidates_format if brought else "auto",
        unlabelled=arguments.unlabelled,
    )
    collection = relevant_from(collection, arguments.relevance_level)
    collection = collection.only(select_queries(set(collection.queries), collection.qrels.keys(), arguments))
    return labelled_only(collection, arguments.labelled_queries)


def select_queries(queries: set[str], judged: Set[str], arguments: ListArguments) -> set[str]:
    """Select the queries that --skip_queries and --max_queries leave, those with judgments before the others.

    Raises:
        InputError: the first leaves none.
    """
    if queries and not 0 <= arguments.skip_queries < len(queries):
        raise InputError(
            f"--skip_queries: expected 0 or more, and fewer than the {len(queries)} queries there are, "
            f"got {arguments.skip_queries}"
        )
    return hash_subset(queries, arguments.max_queries, arguments.skip_queries, first=judged)
