"""The lists that score_with_teacher.py scores: queries with their documents, read or made."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from m3se.run_scripts.cli.arguments import CollectionArguments, RankingArguments, option
from m3se.trainers.data import (
    Collection,
    RankingLists,
    candidate_source,
    lists_relevant_from,
    read_data,
    relevant_from,
    teacher_lists,
    training_lists,
)
from m3se.trainers.data.schema import hash_subset
from m3se.trainers.errors import InputError


@dataclass(kw_only=True)
class ListArguments(CollectionArguments, RankingArguments):
    """The queries, and the documents of each."""

    data: str = option("pydocs, a collection, or a folder of ranking lists.", "pydocs")
    split: str = option("Which queries of a collection.", "train")
    candidates: str = option(
        "Where negatives come from: bm25, random, own (the lists that the data brings), auto (own, else bm25), or a "
        "file: TREC or MS MARCO run, triples of ids, Hofstätter's teacher scores, top1000.",
        "auto",
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
    negatives: str = option("random: drawn from them; top: the best ranked.", "random")
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
    if (Path(arguments.data) / "data_report.json").is_file():
        lists = RankingLists.load(arguments.data)
        queries = lists.rows["query_id"][:]
        selected = select_queries(set(queries), arguments)
        lists.rows = lists.rows.select(np.flatnonzero([query in selected for query in queries]))
        return lists_relevant_from(lists, arguments.relevance_level)
    collection = read_collection(arguments)
    if not scored_here:
        options = {"keep_identical_ids": arguments.keep_identical_ids, "unlabelled": bool(arguments.unlabelled)}
        return teacher_lists(collection, arguments.documents_per_query, **options)
    kind = "own" if Path(arguments.candidates).is_file() else arguments.candidates
    stemmer = None if arguments.bm25_stemmer == "none" else arguments.bm25_stemmer
    bm25 = {"k1": arguments.bm25_k1, "b": arguments.bm25_b, "stemmer": stemmer, "tokenizer": arguments.bm25_tokenizer}
    source = candidate_source(collection, kind, arguments.cache_dir, arguments.seed, **bm25)
    return training_lists(
        collection,
        source,
        arguments.documents_per_query,
        depth=arguments.depth,
        seed=arguments.seed,
        negatives=arguments.negatives,
        keep_identical_ids=arguments.keep_identical_ids,
        unlabelled=arguments.unlabelled or (arguments.unlabelled is None and not collection.qrels),
    )


def read_collection(arguments: ListArguments) -> Collection:
    """Read the collection of --data, with the lists of a file of candidates."""
    brought = arguments.candidates if Path(arguments.candidates).is_file() else None
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
