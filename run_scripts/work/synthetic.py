"""The queries that `--synthetic_queries` makes of the documents."""

import logging

from m3se.run_scripts.score_with_teacher import ListArguments
from m3se.trainers.data import Collection
from m3se.trainers.data.doc2query import QueryWriter
from m3se.trainers.data.readers.read_data import read_titles
from m3se.trainers.data.synthetic_queries import Maker, SyntheticQueries, make_queries, sentence_maker, title_maker


logger = logging.getLogger(__name__)


def make_synthetic(collection: Collection, arguments: ListArguments) -> SyntheticQueries:
    """Make the queries that the options ask for; none has the text of a query that the collection has or left out.

    Raises:
        InputError: no query can be made, or there is no such model.
    """
    avoid = [*collection.queries.values(), *collection.other_queries.values()]
    method = arguments.synthetic_queries
    name = method if method in ("title", "sentence") else "model"
    maker = query_maker(arguments)
    made = make_queries(collection.documents, maker, name, arguments.synthetic_count, arguments.seed, avoid)
    if name == "model":
        made.report["synthetic_method"] = method.rstrip("/").rpartition("/")[2]
    dropped = {reason: count for reason, count in made.report.items() if "_dropped_" in reason}
    logger.info(
        "%s synthetic queries by %s of %s documents%s",
        f"{len(made.queries):,}",
        method,
        f"{len(collection.documents):,}",
        "".join(f"; {reason.replace('_', ' ')}: {count:,}" for reason, count in dropped.items()),
    )
    return made


def query_maker(arguments: ListArguments) -> Maker:
    """Return what makes the queries. Raises InputError when there is no such model."""
    if arguments.synthetic_queries == "title":
        return title_maker(read_titles(arguments.data, arguments.split))
    if arguments.synthetic_queries == "sentence":
        return sentence_maker(arguments.seed)
    return QueryWriter(arguments.synthetic_queries, arguments.seed, arguments.cache_dir)
