r"""Mine hard negatives: what a trained dual encoder ranks high for the training queries although it is not relevant.

    python run_scripts/mine.py --model outputs/quickstart/model --data pydocs --split train --count 20 \
        --output outputs/stages/mined.trec

Writes a TREC run of the negatives, hardest first, that score_with_teacher.py takes as `--candidates FILE
--negatives top`, or united with others as `--candidates bm25 FILE`. With --teacher, documents that it scores above the
query's lowest positive minus --margin are taken for positives that nobody judged, and passed over.
"""

from dataclasses import dataclass, field

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.arguments import (
    REQUIRED,
    CollectionArguments,
    FilterArguments,
    SearchedArguments,
    option,
)
from m3se.run_scripts.cli.parser import HfArgumentParser


@dataclass(kw_only=True)
class MiningArguments(CollectionArguments, SearchedArguments, FilterArguments):
    """The model, the data and the file of the negatives."""

    output: str = option("The TREC run file to write.", REQUIRED)
    split: str = option("Which queries of the data.", "train")
    count: int = option("Negatives of a query.", 20)
    skip: int = option("Pass over this many best ranked documents.", 0)
    depth: int = option("Look at this many ranks.", 100)
    teacher: str | None = option("Model that guards against false negatives, such as a cross-encoder.")
    margin: float | None = option(
        "How far below the lowest positive a negative must score (default with --teacher: 0)."
    )
    unlabelled: bool | None = field(
        default=None,
        metadata={
            "help": "Mine for the queries that no split judges too (default: where the data have no judgments).",
            "nargs": "?",
            "const": True,
        },
    )
    relevance_level: int = option("Grade from which a document is relevant, and no negative.", 1)
    keep_identical_ids: bool = option("Let a document be mined for a query that has its id.", False)
    cache_dir: str = option("Collections, embeddings and teacher scores.", "outputs/cache")


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(MiningArguments, description=__doc__)


def main(arguments: MiningArguments) -> None:
    """Mine negatives for every query and write them."""
    load_work("mine").main(arguments)


if __name__ == "__main__":
    run(make_parser, main)
