"""Make a retriever for the documentation of the installed Python libraries, as `make_retriever.py` makes any other.

    python run_scripts/quickstart.py

It needs no account, no GPU and no download: the texts are docstrings, and the encoder to start from comes with the
extra `demo`. This is `make_retriever.py` with a recipe that comes along; flags after it win.
"""

import sys
from pathlib import Path

from m3se.run_scripts import make_retriever
from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.run_scripts.retriever.options import RetrieverArguments


RECIPE = Path(__file__).resolve().parent / "recipes" / "quickstart.yaml"


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options, which are those of `make_retriever.py`."""
    return HfArgumentParser(RetrieverArguments, description=__doc__)


def main(arguments: RetrieverArguments) -> None:
    """Make the retriever."""
    make_retriever.main(arguments)


if __name__ == "__main__":
    sys.argv[1:1] = ["--recipe", str(RECIPE)]
    run(make_parser, main)
