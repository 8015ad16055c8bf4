"""One door for all formats: `read_data` looks at what it is given and says what it found."""

import logging
from pathlib import Path

from trainers.data.beir import is_beir, read_beir
from trainers.data.pydocs import read_pydocs
from trainers.data.schema import Collection
from trainers.errors import InputError


logger = logging.getLogger(__name__)


def read_data(source: str, split: str, cache_dir: str | Path | None = None) -> Collection:
    """The split of a data source: `pydocs`, or a BEIR folder. Raises InputError when it is neither."""
    if source == "pydocs":
        collection = read_pydocs(split, cache_dir)
    elif is_beir(Path(source)):
        collection = read_beir(source, split)
    else:
        raise InputError(f"{source}: expected 'pydocs' or a folder with corpus.jsonl, queries.jsonl and qrels/")
    logger.info("%s", summary(collection))
    return collection


def summary(collection: Collection) -> str:
    """What was found, in one line."""
    judged = [len([label for label in judged.values() if label > 0]) for judged in collection.qrels.values()]
    return (
        f"{collection.name}: {len(collection.queries):,} queries, {len(collection.documents):,} documents, "
        f"{sum(map(len, collection.qrels.values())):,} judgments, "
        f"{sum(judged) / max(len(collection.queries), 1):.2f} positives per query"
    )
