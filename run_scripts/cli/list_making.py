"""The lists that score_with_teacher.py scores: queries with their documents, read or made."""

import logging
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from m3se.run_scripts.cli.arguments import CollectionArguments, FilterArguments, RankingArguments, option
from m3se.run_scripts.cli.candidate_sources import list_file, load_embedders, open_candidates
from m3se.run_scripts.cli.synthetic import make_synthetic
from m3se.trainers.data import (
    Collection,
    RankingLists,
    ScoreFilters,
    Selection,
    choose_documents,
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


@dataclass(kw_only=True)
class ListArguments(CollectionArguments, RankingArguments, FilterArguments):
    """The queries, and the documents of each."""

    data: str = option("pydocs, a collection, or a folder of ranking lists.", "pydocs")
    split: str = option("Which queries of a collection.", "train")
    candidates: list[str] = field(
        default_factory=lambda: ["auto"],
        metadata={
            "help": "Where negatives come from: bm25, random, own (the lists that the data brings), auto (own, else "
            "bm25); a file: TREC or MS MARCO run, triples of ids, Hofstätter's teacher scores, top1000; or a model "
            "that searches by embeddings. Of several, such as bm25 and a model, every list takes documents in turn.",
        },
    )
    candidate_shares: list[float] = option(
        "How much of a list each of several --candidates has (default: the same).", list
    )
    candidates_format: str = option(
        "Of a file of candidates: run, triples, scored_triples, top1000; auto: what its lines say.", "auto"
    )
    qrels: str | None = option("File of judgments, where the data has none or others.")
    bm25_k1: float = option("Of BM25: how soon a repeated word adds no more.", 0.9)
    bm25_b: float = option("Of BM25: how much long documents are held back, 0 to 1.", 0.4)
    bm25_stemmer: str = option("Snowball stemmer of BM25, by language; none: words as they are.", "english")
    relevance_level: int = option("Grade from which a document is a positive.", 1)
    documents_per_query: int = option("K: the positives and negatives of a query.", 20)
    depth: int = option("Negatives come from the top this many candidates.", 100)
    skip: int = option("Not from this many best ranked ones.", 0)
    negatives: str = option(
        "random: drawn from them; top: the best ranked; stratified: the teacher scores all of them, and one is drawn "
        "from each of as many quantiles of its scores as are needed.",
        "random",
    )
    unlabelled: bool | None = field(
        default=None,
        metadata={
            "help": "Make lists for the queries that no split judges too, with labels 0 (default: where the data have "
            "no judgments at all).",
            "nargs": "?",
            "const": True,
        },
    )
    pseudo_positives: bool = option(
        "In lists without a positive, label the document that the teacher scores highest as one (grade 1).", False
    )
    synthetic_queries: str | None = option(
        "Also make queries of the documents: title (or heading, for the rest of its document), sentence (for its "
        "passage without it), or a doc2query model."
    )
    synthetic_count: int | None = option("So many, of documents that are drawn (default: of every document).")
    max_queries: int | None = option("Only so many, the first by hash of their id.")
    skip_queries: int = option(
        "Leave out the first so many by hash: as many as train_teacher.py's --train_queries, so that the teacher "
        "scores only queries that it was not trained on.",
        0,
    )
    seed: int = option("Of the random negatives.", 0)
    cache_dir: str = option("Scores, prepared collections, indexes.", "outputs/cache")


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
        queries = lists.rows["query_id"][:]
        selected = select_queries(set(queries), arguments)
        lists.rows = lists.rows.select(np.flatnonzero([query in selected for query in queries]))
        return lists_relevant_from(lists, arguments.relevance_level)
    if arguments.synthetic_queries and not scored_here:
        raise InputError("--synthetic_queries: expected a --teacher; nothing else can score new queries")
    embedders = load_embedders(arguments)
    collection = read_collection(arguments)
    made = make_synthetic(collection, arguments) if arguments.synthetic_queries else None
    is_unlabelled = arguments.unlabelled or (arguments.unlabelled is None and not collection.qrels)
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
    return collection.only(select_queries(set(collection.queries), arguments))


def select_queries(queries: set[str], arguments: ListArguments) -> set[str]:
    """Select the queries that --skip_queries and --max_queries leave. Raises InputError when the first leaves none."""
    if queries and not 0 <= arguments.skip_queries < len(queries):
        raise InputError(
            f"--skip_queries: expected 0 or more, and fewer than the {len(queries)} queries there are, "
            f"got {arguments.skip_queries}"
        )
    return hash_subset(queries, arguments.max_queries, arguments.skip_queries)
