"""Search a collection with a dual encoder.

    python run_scripts/search.py --model outputs/quickstart/de-m3se --collection pydocs "eigenvalues of a matrix"

The first search embeds the collection and keeps that; from then on an answer takes seconds.
"""

import time
from argparse import Namespace
from dataclasses import dataclass, field
from textwrap import shorten

from transformers import HfArgumentParser

from m3se.run_scripts.cli.app import run
from m3se.trainers.data import read_data
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection, cached_encoding
from m3se.trainers.retrieval.exact_search import retrieve
from m3se.trainers.retrieval.loading import load_embedder


@dataclass
class SearchArguments:
    model: str = field(metadata={"help": "Folder or Hub id of a model that embeds documents in one vector."})
    collection: str = field(default="pydocs", metadata={"help": "pydocs, or another collection."})
    split: str = field(default="test", metadata={"help": "One that the collection has; all documents are searched."})
    top: int = field(default=10, metadata={"help": "How many documents to show."})
    encoding: str | None = field(
        default=None, metadata={"help": "Folder that encode.py wrote (default: in the cache)."}
    )
    dtype: str = field(default="auto", metadata={"help": "float32, bfloat16, or auto: bfloat16 where it is fast."})
    pooling: str | None = field(default=None, metadata={"help": "cls or mean, for bare encoders only."})
    cache_dir: str = field(default="outputs/cache", metadata={"help": "Where collections and embeddings are kept."})


def make_parser() -> HfArgumentParser:
    parser = HfArgumentParser(SearchArguments, description=__doc__)
    parser.add_argument("query", nargs="+", help="What to search for; each argument is a query of its own.")
    return parser


def main(arguments: SearchArguments, rest: Namespace) -> None:
    if arguments.top < 1:
        raise InputError(f"top: expected at least 1, got {arguments.top}")
    scorer = load_embedder(arguments.model, arguments.dtype, arguments.pooling)
    documents = read_data(arguments.collection, arguments.split, arguments.cache_dir, allow_missing=True).documents
    if arguments.encoding is None:
        encoded = cached_encoding(scorer, documents, arguments.cache_dir)
    else:
        encoded = EmbeddedCollection(arguments.encoding)
        encoded.check(scorer.fingerprint, documents.fingerprint)
    started = time.perf_counter()
    found = retrieve(scorer, dict(zip(rest.query, rest.query, strict=True)), encoded, arguments.top, progress=False)
    print(f"{len(documents):,} documents searched in {time.perf_counter() - started:.2f} s")
    for query, scores in found.items():
        print(f"\n{query}")
        texts = documents.texts(list(scores))
        for rank, (name, text) in enumerate(zip(scores, texts, strict=True), start=1):
            print(f"{rank:3d}. {scores[name]:9.3f}  {name}\n{'':16}{shorten(text.removeprefix(name), 100)}")


if __name__ == "__main__":
    run(make_parser, main)
