r"""Put a collection into a vector database, in a file or on a server, for a search service.

    python run_scripts/index.py --model outputs/quickstart/model --data pydocs --store outputs/pydocs.db
    python run_scripts/search.py --model outputs/quickstart/model --store outputs/pydocs.db "read a csv file"

Vectors come from where encode.py and search.py keep them, and are made there if they are missing. Run it again to go
on where it stopped: documents that the database has are left, changed ones replaced. --add and --delete change a few.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import REQUIRED, DocumentArguments, SearchedArguments, StoreArguments, option
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.trainers.errors import InputError, preview


if TYPE_CHECKING:
    from m3se.trainers.data.documents import DocumentTable
    from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
    from m3se.trainers.retrieval.scorers import DenseScorer
    from m3se.trainers.stores.document_store import DocumentStore

logger = logging.getLogger(__name__)

QUERIES_TRIED = 100  # documents that are taken as queries to measure an approximate index
BEST = 10  # results of each


@dataclass(kw_only=True)
class IndexArguments(DocumentArguments, SearchedArguments, StoreArguments):
    """The documents, the model that embeds them, and the database."""

    model: str | None = option("Folder or Hub id of a model that embeds documents in one vector.")
    store: str = option(
        "Database: a file NAME.db, or a Milvus server's address such as http://HOST:19530 (its token in "
        "M3SE_STORE_TOKEN).",
        REQUIRED,
    )
    index_type: str | None = option(
        "Exact: FLAT. Approximate: IVF_FLAT, HNSW, or with int8 IVF_SQ8, HNSW_SQ (default: what is there, or FLAT)."
    )
    add: str | None = option("Put only the documents of this file, JSON lines with _id and text, not --data.")
    delete: list[str] = option("Delete the documents with these ids, and put none.", list)


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(IndexArguments, description=__doc__)


def main(arguments: IndexArguments) -> None:
    """Change the documents of the database as the options say."""
    from m3se.trainers.stores.connection import check_store
    from m3se.trainers.stores.document_store import check_index

    check_store(arguments.store)
    check_index(arguments.index_type)
    if arguments.delete:
        delete(arguments)
    elif arguments.model is None:
        raise InputError("--model: expected the model that embeds the documents")
    else:
        put(arguments)


def delete(arguments: IndexArguments) -> None:
    """Delete documents, and warn of those that were not there."""
    from m3se.trainers.stores.document_store import open_store

    if arguments.add or arguments.model:
        raise InputError("--delete: goes without --add and --model")
    with open_store(arguments.store, arguments.store_name) as store:
        absent = store.delete(arguments.delete)
        if absent:
            logger.warning("%s: %d documents were not there: %s", store.uri, len(absent), preview(absent))
        deleted = len(set(arguments.delete)) - len(absent)
        logger.info("%s: %s documents deleted, %s left", store.uri, f"{deleted:,}", f"{len(store):,}")


def put(arguments: IndexArguments) -> None:
    """Embed and put the documents that the database lacks."""
    from m3se.run_scripts.work.encodings import open_encoding
    from m3se.run_scripts.work.models import compile_searcher, load_searcher
    from m3se.trainers.backends.choice import INT8
    from m3se.trainers.data.readers.read_data import read_corpus, read_documents
    from m3se.trainers.stores.document_store import create_store
    from m3se.trainers.stores.fill import fill_store

    scorer, backend = load_searcher(arguments)
    has_collection = not arguments.add or backend.dtype == INT8  # which int8 is calibrated on
    documents = read_documents(arguments.data, arguments.cache_dir, arguments.split) if has_collection else None
    compile_searcher(scorer, backend, documents, arguments.cache_dir)
    if arguments.add:
        documents = read_corpus(arguments.add, arguments.cache_dir)
    encoded = open_encoding(arguments, scorer, documents)
    name, index_type, model = arguments.store_name, arguments.index_type, scorer.side_fingerprint("document")
    with create_store(arguments.store, name, model, encoded.width, index_type) as store:
        written = fill_store(store, documents, encoded)
        logger.info("%s: %s documents put, %s there", store.uri, f"{written:,}", f"{len(store):,}")
        report_recall(arguments, scorer, documents, encoded, store)


def report_recall(
    arguments: IndexArguments,
    scorer: "DenseScorer",
    documents: "DocumentTable",
    encoded: "EmbeddedCollection",
    store: "DocumentStore",
) -> None:
    """Say what an approximate index loses: its recall of the exact results for documents that are taken as queries.

    Args:
        arguments: how much the index looks at.
        scorer: embeds the queries.
        documents, encoded: texts and vectors of the collection.
        store: has the same documents; nothing is said when it has others too.
    """
    import numpy as np

    from m3se.trainers.stores.document_store import EXACT
    from m3se.trainers.stores.searching import retrieve_from_store

    if store.index_type == EXACT or len(store) != len(documents):
        return
    rows = np.unique(np.linspace(0, len(documents) - 1, QUERIES_TRIED).astype(int))
    queries = dict(enumerate(documents.texts_at(rows)))
    _, recall = retrieve_from_store(scorer, queries, store, BEST, arguments.effort, encoded)
    logger.info(
        "%s finds %.1f%% of the exact %d best for %d documents taken as queries",
        store.index_type,
        100 * recall,
        BEST,
        len(queries),
    )


if __name__ == "__main__":
    run(make_parser, main)
