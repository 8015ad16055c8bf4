"""The queries and candidates that evaluate.py and diagnose.py ask for, by what `--candidates` names."""

import logging
from pathlib import Path

from m3se.run_scripts.cli.arguments import CandidateArguments
from m3se.trainers.data import BM25Index, Collection, OwnCandidates, RankingLists, RunFile, hash_subset, read_data
from m3se.trainers.data.bm25_ranking import BM25Ranking
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.reranking import Candidates, take_candidates, take_lists
from m3se.trainers.evaluation.runs import is_trec_run


logger = logging.getLogger(__name__)

NAMED = ("bm25", "own")  # candidates that are no path


def find_candidates(arguments: CandidateArguments) -> Candidates:
    """Find the lists to re-rank. Raises InputError for a source that does not fit the data or has no document."""
    if is_folder(arguments.candidates):
        candidates = _folder_candidates(arguments)
    else:
        candidates = _collection_candidates(arguments)
    if candidates.identical:
        logger.info(
            "%d documents have the id of their query and are no candidates for it (--keep_identical_ids true keeps "
            "them)",
            candidates.identical,
        )
    if candidates.depth > arguments.depth:
        logger.info(
            "%s are in no order that --depth %d could cut: all are taken, at most %d documents a query",
            candidates.name,
            arguments.depth,
            candidates.depth,
        )
    return candidates


def _folder_candidates(arguments: CandidateArguments) -> Candidates:
    if arguments.skip_queries:
        raise InputError("--skip_queries: for the queries of --data; --candidates is a folder with queries of its own")
    lists = RankingLists.load(arguments.candidates).first(arguments.max_queries)
    return take_lists(lists, Path(arguments.candidates).name, arguments.depth, arguments.keep_identical_ids)


def _collection_candidates(arguments: CandidateArguments) -> Candidates:
    is_run = is_run_file(arguments.candidates) and arguments.candidates_format in ("auto", "run")
    file = None if is_run or arguments.candidates in NAMED else arguments.candidates
    collection = open_collection(arguments, file)
    if is_run:
        source = RunFile(arguments.candidates, collection, arguments.allow_missing)
    elif arguments.candidates == "bm25":
        source = build_bm25(arguments, collection)
    else:
        source = OwnCandidates(collection, f"lists of {Path(file or arguments.data).name}")
    options = arguments.depth, arguments.relevance_level, arguments.keep_identical_ids
    return take_candidates(collection, source, *options)


def build_bm25(arguments: CandidateArguments, collection: Collection) -> BM25Ranking:
    """Build BM25's index of a collection, or open it in the cache."""
    options = {"cache_dir": arguments.cache_dir, "tokenizer": arguments.bm25_tokenizer}
    return BM25Index.build(collection.documents, **options)


def open_collection(arguments: CandidateArguments, candidates: str | None = None) -> Collection:
    """Read the data, with the lists of a file if one is given, and only the judged queries that are asked for.

    Raises InputError when no query is judged.
    """
    collection = read_data(
        arguments.data,
        arguments.split,
        arguments.cache_dir,
        candidates=candidates,
        qrels=arguments.qrels,
        allow_missing=arguments.allow_missing,
        candidates_format=arguments.candidates_format if candidates else "auto",
    )
    judged = [query for query in collection.queries if collection.qrels.get(query)]
    if not judged:
        raise InputError(f"{collection.name}: no query with a judgment to evaluate")
    if not 0 <= arguments.skip_queries < len(judged):
        raise InputError(
            f"--skip_queries: expected 0 or more, and fewer than the {len(judged)} judged queries there are, "
            f"got {arguments.skip_queries}"
        )
    return collection.only(hash_subset(judged, arguments.max_queries, arguments.skip_queries))


def is_folder(candidates: str) -> bool:
    """Tell whether these candidates are ranking lists, which have their queries and labels with them."""
    return candidates not in NAMED and Path(candidates).is_dir()


def is_run_file(candidates: str) -> bool:
    """Tell whether these candidates are a TREC run, which has scores."""
    return candidates not in NAMED and is_trec_run(candidates)
