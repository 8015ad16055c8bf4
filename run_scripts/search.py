"""Search a collection with a dual encoder.

    python run_scripts/search.py --model outputs/quickstart/model --data pydocs "eigenvalues of a matrix"

The first search embeds the collection and keeps that; from then on an answer takes seconds.
"""

import time
from argparse import Namespace
from dataclasses import dataclass, field
from textwrap import shorten

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import DocumentArguments, SearchedArguments, option
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.trainers.errors import InputError


@dataclass(kw_only=True)
class SearchArguments(DocumentArguments, SearchedArguments):
    """The collection to search, and the model."""

    data: str = field(
        default="pydocs", metadata={"help": "pydocs, or another collection.", "aliases": ["--collection"]}
    )
    top: int = option("How many documents to show.", 10)
    cache_dir: str = option("Where collections and embeddings are kept.", "outputs/cache")


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options and queries."""
    parser = HfArgumentParser(SearchArguments, description=__doc__)
    parser.add_argument("query", nargs="+", help="What to search for; each argument is a query of its own.")
    return parser


def main(arguments: SearchArguments, rest: Namespace) -> None:
    """Print the best documents of every query."""
    if arguments.top < 1:
        raise InputError(f"top: expected at least 1, got {arguments.top}")
    from m3se.run_scripts.work.encodings import open_encoding
    from m3se.trainers.data import read_documents
    from m3se.trainers.retrieval.loading import load_embedder
    from m3se.trainers.retrieval.search import retrieve

    scorer = load_embedder(arguments.model, arguments.dtype, arguments.pooling)
    documents = read_documents(arguments.data, arguments.cache_dir, arguments.split)
    encoded = open_encoding(arguments, scorer, documents)
    started = time.perf_counter()
    queries = dict(zip(rest.query, rest.query, strict=True))
    run_ = retrieve(scorer, queries, encoded, arguments.top, progress=False)
    print(f"{len(documents):,} documents searched in {time.perf_counter() - started:.2f} s")
    for query, scores in run_.items():
        print(f"\n{query}")
        texts = documents.texts(list(scores))
        for rank, (name, text) in enumerate(zip(scores, texts, strict=True), start=1):
            print(f"{rank:3d}. {scores[name]:9.3f}  {name}\n{'':16}{shorten(text.removeprefix(name), 100)}")


if __name__ == "__main__":
    run(make_parser, main)
