r"""Make a retriever from your documents and a reranker, better than the encoder it starts from, or say why not.

    python run_scripts/make_retriever.py --data my_folder --teacher org/reranker --encoder org/encoder \
        --output outputs/mine

It takes candidates from BM25 and from the start encoder, measures on held-out queries whether the teacher ranks them
better than the start, distils the teacher into students while the time lasts, chooses among them on held-out queries,
and judges the choice on others. Queries without judgments are welcome; without any the verdict is agreement with the
teacher. Results that have not changed since the last run are reused, so that the same command goes on after an
interruption.
"""

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.run_scripts.retriever.options import RetrieverArguments


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(RetrieverArguments, description=__doc__)


def main(arguments: RetrieverArguments) -> None:
    """Run all stages, each in a process of its own."""
    load_work("make_retriever").main(arguments)


if __name__ == "__main__":
    run(make_parser, main)
