r"""Show several searches of a collection side by side, on a page in the browser.

    python run_scripts/demo.py --model outputs/quickstart/model --start outputs/quickstart/start \
        --teacher start bm25 --teacher_weights 4 1 --run outputs/quickstart --collection pydocs

Type a query: BM25, the start encoder and every --model answer it, and the teacher ranks their best documents again,
with scores, times, moved ranks, the words and tokens that met, and judgments where the data have them. Further tabs
show tables, pictures and the largest disagreements of a --run, an output folder of make_retriever.py, evaluate.py or
diagnose.py. Only this machine can open the page, unless --host names another address.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import ClassVar

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import REQUIRED, CacheArguments, ScorerArguments, TwoStageArguments, option
from m3se.run_scripts.cli.parser import HfArgumentParser


@dataclass(kw_only=True)
class DemoArguments(CacheArguments, ScorerArguments, TwoStageArguments):
    """The searches to compare, the collection, and where the page is."""

    backend: ClassVar[str] = "torch"

    model: list[str] = option("Folders or Hub ids of models that search: students, ColBERTs and others.", REQUIRED)
    name: list[str] = option("Their names on the page (default: of the folder).", list)
    start: str | None = option("The encoder that they started from; moved ranks are counted from its ranking.")
    teacher: list[str] = option(
        "Ranks the best documents of all searches again: a folder or Hub id, or several, which are averaged; the "
        "words start and bm25 stand for these searches.",
        list,
    )
    teacher_weights: list[float] = option("How much each of several teachers counts (default: the same).", list)
    data: str = field(
        default="pydocs", metadata={"help": "pydocs, or another collection.", "aliases": ["--collection"]}
    )
    split: str = option("The queries to choose from, and their judgments, where the data have such a split.", "test")
    run: list[str] = option("Output folders of make_retriever.py, evaluate.py or diagnose.py to show.", list)
    top: int = option("Documents that each search shows.", 10)
    depth: int = option("Best documents of each search that the teacher ranks.", 20)
    host: str = option("Address that the page listens to; 0.0.0.0 lets other machines open it.", "127.0.0.1")
    port: int | None = option("Its port (default: the first that is free from 7860 on).")


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(DemoArguments, description=__doc__)


def main(arguments: DemoArguments) -> None:
    """Serve the page until the command is stopped."""
    import_module("m3se.run_scripts.demo_page.serve").main(arguments)


if __name__ == "__main__":
    run(make_parser, main)
