r"""Measure rankers, re-ranking the same candidate lists or searching a whole collection: one table, and a run file and
metrics for each.

    python run_scripts/evaluate.py --model outputs/stages/teacher outputs/quickstart/model --name CA "DE M3SE" \
        --data pydocs --split test --candidates bm25 --depth 50 --output outputs/evaluation

A single model without a --name leaves its files in the output folder itself, every other row in a folder of its name.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.arguments import (
    REQUIRED,
    BackendArguments,
    CandidateArguments,
    StoreArguments,
    TwoStageArguments,
    option,
)
from m3se.run_scripts.cli.parser import HfArgumentParser


if TYPE_CHECKING:
    from m3se.trainers.evaluation.report import System


@dataclass(kw_only=True)
class EvaluationArguments(CandidateArguments, BackendArguments, StoreArguments, TwoStageArguments):
    """The models to measure, the data, and the folder of the results."""

    output: str = option("Folder for table.md and, for each of its rows, a run and its metrics.", REQUIRED)
    model: list[str] = option("Model folders or Hub ids; none: only BM25.", list)
    name: list[str] = option("Their names in the table (default: of the folder).", list)
    metrics: list[str] = option(
        "Any measures of ir_measures, such as MAP@100 or P@5 (default: MRR@10, nDCG@10 and Recall@100).", list
    )
    retrieve: bool = option("Search the whole collection instead of re-ranking.", False)
    index: str | None = option("FAISS factory string such as IVF4096,PQ64 (default: exact search).")
    probes: int | None = option("Cells of an IVF index that are looked at.")
    baseline: str | None = option("Row that the others are tested against (default: the first model).")
    mean_weights: list[float] = option(
        "Also measure the mean of all rows' scores, standardised within each list, with a weight for each row (BM25's "
        "first, 0 leaves a row out): whether several together would be a better teacher.",
        list,
    )
    pooling: str | None = option("cls, mean or last (token), for those that are bare encoders.")
    template: str | None = option("Prompt of those that are language models: a built-in name or a file.")


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(EvaluationArguments, description=__doc__)


def main(arguments: EvaluationArguments) -> list["System"]:
    """Measure every model, and write and print the table."""
    return load_work("evaluate").main(arguments)


if __name__ == "__main__":
    run(make_parser, main)
