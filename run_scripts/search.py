"""Search a collection with a dual encoder, or with ColBERT.

    python run_scripts/search.py --model outputs/quickstart/model --data pydocs "eigenvalues of a matrix"

The first search embeds the collection and keeps that; from then on an answer takes seconds. With the extra `onnx` it
also prepares later ones, which answer in about a second, as they need no torch: those by a dual encoder in a folder,
with no further options. With --store, the database that index.py filled is searched, and --data is not read. ColBERT
scores what --first_stage proposes: bm25, unless another is named.
"""

from argparse import Namespace
from dataclasses import dataclass, field
from textwrap import shorten

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.arguments import (
    DocumentArguments,
    SearchedArguments,
    StoreArguments,
    TwoStageArguments,
    option,
)
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.hits import Answers


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
    load_work("search").main(arguments, rest.query)


def search_prepared(arguments: SearchArguments, rest: Namespace) -> bool:
    """Search without torch, and print the best documents of every query.

    Returns false, and prints nothing, where the search was not prepared, or is no longer as it was.
    """
    if arguments.top < 1 or not is_plain(arguments):
        return False
    from m3se.trainers.retrieval.prepared.answering import answer
    from m3se.trainers.retrieval.prepared.record import PreparedSearch, record_file
    from m3se.trainers.storage.cache import cache_root

    cache = cache_root(arguments.cache_dir)
    prepared = PreparedSearch.read(record_file(cache, arguments.model, arguments.data, arguments.split))
    if prepared is None:
        return False
    try:
        answers = answer(prepared, rest.query, arguments.top)
    except (ImportError, InputError):  # a package that is gone, a file that is damaged
        return False
    show(answers, rest.query)
    return True


def is_plain(arguments: SearchArguments) -> bool:
    """Tell whether all options have their defaults but those that a prepared search knows."""
    names = ("model", "data", "split", "top", "cache_dir")
    plain = SearchArguments(**{name: getattr(arguments, name) for name in names})
    return vars(arguments) == vars(plain)


def show(answers: Answers, queries: list[str]) -> None:
    """Print the documents of every query with rank, score and the beginning of the text."""
    print(f"{answers.documents:,} documents searched in {answers.seconds:.2f} s")
    for query, hits in zip(queries, answers.hits, strict=True):
        print(f"\n{query}")
        for rank, hit in enumerate(hits, start=1):
            print(f"{rank:3d}. {hit.score:9.3f}  {hit.id}\n{'':16}{shorten(hit.text.removeprefix(hit.id), 100)}")


if __name__ == "__main__":
    run(make_parser, main, search_prepared)
