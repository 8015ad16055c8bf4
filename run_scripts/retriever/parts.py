"""The queries of a retriever, divided into those to train on, to choose by and to hold out."""

from dataclasses import dataclass, replace

from m3se.run_scripts.retriever.options import TRAIN, RetrieverArguments
from m3se.run_scripts.work.synthetic import make_synthetic
from m3se.trainers.data import Collection, hash_subset, read_data, relevant_from
from m3se.trainers.data.readers.read_data import has_queries, has_split, read_without_queries
from m3se.trainers.data.schema import positives
from m3se.trainers.data.synthetic_queries import SyntheticQueries, add_queries
from m3se.trainers.errors import InputError


LEAST_QUERIES = 20  # fewer held-out queries could not tell two systems apart


@dataclass(frozen=True)
class Parts:
    """Disjoint queries over the same documents. The queries of `train` may be without judgments; so may all be."""

    teacher: Collection
    train: Collection
    dev: Collection
    test: Collection


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
    held_out, most = {}, most_held_out(len(train.queries), len(eligible))
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
    learned = train.queries.keys() - teacher_queries
    students = hash_subset(learned, arguments.train_queries, first=set(judged_queries(people)))
    if not students:
        raise InputError(f"{arguments.data}: no query is left to train a student on")
    parts = Parts(restrict(train, teacher_queries), restrict(train, students), held_out["dev"], held_out["test"])
    return parts, made


def most_held_out(queries: int, eligible: int) -> int:
    """Return how many queries dev and test may take each: a fifth of all, and a third of those to measure by.

    Few judged queries beside a long log are shared evenly between the two and the training, each with LEAST_QUERIES if
    there are so many.
    """
    return min(queries // 5, max(LEAST_QUERIES, eligible // 3))


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
