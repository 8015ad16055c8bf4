"""The queries of a retriever, divided into those to train on, to choose by and to hold out, and the lists of each."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from datasets import Dataset

from m3se.modeling.dual_encoder import DualEncoder
from m3se.run_scripts.retriever.measure import encoded_scores
from m3se.run_scripts.retriever.options import BM25, QUERIES, START, TRAIN, RetrieverArguments
from m3se.run_scripts.work.synthetic import make_synthetic
from m3se.trainers.data import (
    BM25Index,
    Collection,
    RankingLists,
    candidate_lists,
    hash_subset,
    read_data,
    relevant_from,
    training_lists,
)
from m3se.trainers.data.readers.read_data import has_queries, has_split, read_without_queries
from m3se.trainers.data.schema import positives
from m3se.trainers.data.synthetic_queries import SyntheticQueries, add_queries, take_queries_out
from m3se.trainers.data.united import UnitedCandidates
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import check_ids
from m3se.trainers.models.backbones import as_input_errors, check_lengths, encoder_path
from m3se.trainers.models.inspection import inspect_model, load_tokenizer
from m3se.trainers.retrieval.dense_candidates import DenseCandidates
from m3se.trainers.retrieval.embedded_collection import cached_encoding
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.storage.atomic import complete_file, complete_folder, write_json


logger = logging.getLogger(__name__)

LEAST_QUERIES = 20  # fewer held-out queries could not tell two systems apart


@dataclass(frozen=True)
class Parts:
    """Disjoint queries over the same documents. Those of `train` may be without judgments; so may all be."""

    teacher: Collection
    train: Collection
    dev: Collection
    test: Collection


def prepare(arguments: RetrieverArguments) -> None:
    """Write the start model, the lists of every part, and `queries.json`: how many queries, and how many are judged.

    Raises:
        InputError: the data or the start encoder cannot be read, or there are too few queries.
    """
    write_start(arguments)
    scorer = load_embedder(arguments.start)
    parts, made = divide(arguments)
    documents = parts.train.documents
    bm25 = BM25Index.build(documents, cache_dir=arguments.cache_dir, tokenizer=arguments.bm25_tokenizer)
    encoded = cached_encoding(scorer, documents, arguments.cache_dir)
    source = UnitedCandidates([bm25, DenseCandidates(scorer, encoded, Path(arguments.encoder).name)])
    options = {"depth": arguments.depth, "seed": arguments.seed, "keep_identical_ids": arguments.keep_identical_ids}
    stratified = arguments.negatives == "stratified"
    negatives = "all" if stratified else arguments.negatives
    size = arguments.documents_per_query
    counts = {"documents": len(documents), "synthetic": 0 if made is None else len(made.queries)}
    counts["held_out_are_synthetic"] = made is not None and parts.test.queries.keys() <= made.queries.keys()
    for name in ("teacher", "train"):
        part = getattr(parts, name)
        if part.queries:
            own = {"negatives": negatives, "unlabelled": True} if name == "train" else {"negatives": "random"}
            lists = training_lists(part, source, size, **options, **own)
            (lists if made is None else take_queries_out(lists, made)).save(arguments.lists(name))
    for name in ("dev", "test"):
        part = getattr(parts, name)
        lists = candidate_lists(
            part, source, arguments.held_out_depth, keep_identical_ids=arguments.keep_identical_ids
        )
        lists.save(arguments.lists(name))
        write_json(arguments.folder / f"qrels.{name}.json", part.qrels)
    for name in ("teacher", "train", "dev", "test"):
        counts[name] = describe(getattr(parts, name))
    if BM25 in arguments.teacher:
        write_scores(arguments, BM25, lambda rows: bm25.scores(rows["query"][:], rows["document_ids"][:]))
    if START in arguments.teacher:
        write_scores(arguments, START, lambda rows: encoded_scores(scorer, encoded, documents, rows))
    write_json(arguments.folder / QUERIES, counts)


def write_start(arguments: RetrieverArguments) -> None:
    """Save the student as it is before training, with its tokenizer.

    Raises:
        InputError: the encoder cannot be used.
    """
    path = encoder_path(arguments.encoder)
    fields = {"query_length": arguments.query_length, "document_length": arguments.document_length}
    if arguments.start_pooling is not None:
        fields["pooling"] = arguments.start_pooling
    tokenizer = load_tokenizer(path)
    with as_input_errors(arguments.encoder):
        model = DualEncoder.from_encoder(path, **fields)
        check_lengths(model)
        inspect_model(model, tokenizer, arguments.encoder)
    with complete_folder(arguments.start) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def write_scores(
    arguments: RetrieverArguments, name: str, score: Callable[[Dataset], Iterable[Iterable[float]]]
) -> None:
    """Write the scores of all pairs that a teacher is going to score, as lines `query document score`.

    Args:
        arguments: the options.
        name: of the ranker.
        score: gives the scores of each row's documents.
    """
    arguments.scores(name).parent.mkdir(exist_ok=True)
    with complete_file(arguments.scores(name)) as new, open(new, "w", encoding="utf-8") as file:
        for part in ("train", "dev", "test"):
            rows = RankingLists.load(arguments.lists(part)).rows
            check_ids(rows["query_id"], chain.from_iterable(rows["document_ids"]), "a file of scores")
            for query, ids, values in zip(rows["query_id"], rows["document_ids"], score(rows), strict=True):
                file.writelines(f"{query} {document} {value!r}\n" for document, value in zip(ids, values, strict=True))


def divide(arguments: RetrieverArguments) -> tuple[Parts, SyntheticQueries | None]:
    """Divide the queries: a split of the data where it has one, and else a part of its training queries, by hash.

    Dev and test queries are judged ones, else others that people wrote, else synthetic ones without their judgments.

    Returns:
        The parts, and the queries that were made.

    Raises:
        InputError: the data cannot be read, or leave too few queries for a part.
    """
    people = read_training_queries(arguments)
    made = make_synthetic(people, arguments) if arguments.synthetic_queries else None
    train = people if made is None else add_queries(people, made)
    eligible = set(judged_queries(people) or people.queries or train.queries)
    held_out, most = {}, len(train.queries) // 5  # of the training queries in either part
    for name, count in (("test", arguments.test_queries), ("dev", arguments.dev_queries)):
        if has_queries(arguments.data, "train") and has_split(arguments.data, name):
            part = read(arguments, name)
            queries = hash_subset(judged_queries(part), count)
        else:
            part, queries = train, hash_subset(eligible & train.queries.keys(), min(count, most))
            train = train.only(train.queries.keys() - queries)
        held_out[name] = restrict(part, queries, judged=bool(people.queries))
        refuse_few(queries, f"{arguments.data}: expected at least {LEAST_QUERIES} queries for the {name} part")
    teacher_queries: set[str] = set()
    if TRAIN in arguments.teacher:
        labelled = judged_queries(train)
        count = len(labelled) // 3 if arguments.teacher_queries is None else arguments.teacher_queries
        teacher_queries = hash_subset(labelled, count)
        refuse_few(
            teacher_queries,
            f"--teacher train: name a reranker, or judge queries; expected at least {LEAST_QUERIES} for its training",
        )
    students = hash_subset(train.queries.keys() - teacher_queries, arguments.train_queries)
    if not students:
        raise InputError(f"{arguments.data}: no query is left to train a student on")
    parts = Parts(restrict(train, teacher_queries), restrict(train, students), held_out["dev"], held_out["test"])
    return parts, made


def refuse_few(queries: set[str], expectation: str) -> None:
    """Raise InputError when a part has too few queries for what it is for."""
    if len(queries) < LEAST_QUERIES:
        raise InputError(f"{expectation}, got {len(queries)}")


def read_training_queries(arguments: RetrieverArguments) -> Collection:
    """Read the training queries, judged or not; only the documents where all queries are to be made."""
    if arguments.synthetic_queries and not has_queries(arguments.data, "train"):
        return read_without_queries(arguments.data, "train", arguments.cache_dir)
    return read(arguments, "train", unlabelled=True)


def read(arguments: RetrieverArguments, split: str, unlabelled: bool = False) -> Collection:
    """Read a split of the data, prepared once in the cache."""
    collection = read_data(
        arguments.data,
        split,
        cache_dir=arguments.cache_dir,
        allow_missing=arguments.allow_missing,
        unlabelled=unlabelled,
    )
    return relevant_from(collection, arguments.relevance_level)


def judged_queries(collection: Collection) -> list[str]:
    """List the queries with a relevant document."""
    return [query for query in collection.queries if positives(collection.qrels.get(query, {}))]


def restrict(collection: Collection, queries: set[str], judged: bool = True) -> Collection:
    """Return the collection with these queries alone, and with their judgments if `judged`."""
    part = collection.only(queries)
    named = queries if judged else set()
    return replace(part, qrels={query: grades for query, grades in part.qrels.items() if query in named})


def describe(part: Collection) -> dict[str, int]:
    """Count the queries of a part, and those with judgments."""
    return {"queries": len(part.queries), "judged": len(judged_queries(part))}
