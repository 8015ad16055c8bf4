"""Search a collection with a dual encoder, or with ColBERT.

    python run_scripts/search.py --model outputs/quickstart/model --data pydocs "eigenvalues of a matrix"

The first search embeds the collection and keeps that; from then on an answer takes seconds. With --store, the
database that index.py filled is searched, and --data is not read. ColBERT scores what --first_stage proposes: bm25,
unless another is named.
"""

from argparse import Namespace
from dataclasses import dataclass, field

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import (
    DocumentArguments,
    SearchedArguments,
    StoreArguments,
    TwoStageArguments,
    option,
)
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.trainers.errors import InputError


@dataclass(kw_only=True)
class SearchArguments(DocumentArguments, SearchedArguments, StoreArguments, TwoStageArguments):
    """The collection to search, and the model."""

    data: str = field(
        default="pydocs", metadata={"help": "pydocs, or another collection.", "aliases": ["--collection"]}
    )
    top: int = option("How many documents to show.", 10)
    cache_dir: str = option("Where collections and embeddings are kept.", "outputs/cache")
    where: str | None = option("Condition on documents of a --store, such as 'id like \"numpy.%%\"'.")


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options and queries."""
    parser = HfArgumentParser(SearchArguments, description=__doc__)
    parser.add_argument("query", nargs="+", help="What to search for; each argument is a query of its own.")
    return parser


def main(arguments: SearchArguments, rest: Namespace) -> None:
    """Print the best documents of every query."""
    if arguments.top < 1:
        raise InputError(f"top: expected at least 1, got {arguments.top}")
    if arguments.store is None and (arguments.where or arguments.effort):
        raise InputError("--where and --effort are for --store")
    from m3se.run_scripts.work import search

    search.main(arguments, rest.query)


if __name__ == "__main__":
    run(make_parser, main)
