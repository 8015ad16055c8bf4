"""The embeddings that search.py and mine.py look through."""

from m3se.run_scripts.cli.arguments import SearchedArguments
from m3se.trainers.data import DocumentTable
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection, cached_encoding
from m3se.trainers.retrieval.scorers import DenseScorer


def open_encoding(arguments: SearchedArguments, scorer: DenseScorer, documents: DocumentTable) -> EmbeddedCollection:
    """Open the folder of `--encoding`, or that in the cache, where what is missing is embedded first.

    Raises InputError when the folder holds the embeddings of another model or of other documents.
    """
    if arguments.encoding is None:
        return cached_encoding(scorer, documents, arguments.cache_dir)
    encoded = EmbeddedCollection(arguments.encoding)
    encoded.check(scorer.fingerprint, documents.fingerprint)
    return encoded
