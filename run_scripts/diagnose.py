r"""Show why a dual encoder lags behind its teacher: the paper's figures for any models, with the numbers behind them.

    python run_scripts/diagnose.py --model CA=outputs/stages/teacher DE=outputs/stages/de_one_hot \
        DIST=outputs/stages/de_m3se --data pydocs --output outputs/diagnostics

The first model is the teacher, the last two are compared side by side. Writes diagnostics.md, which shows the pictures
and tables, and beside each of them its data as parquet. --stage CA@0=DIR … adds earlier checkpoints (Figure 7);
--size DE=DIR DE=DIR … adds models of other embedding sizes (Figures 1 and 3).
"""

from dataclasses import dataclass

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.arguments import REQUIRED, CandidateArguments, ScorerArguments, option
from m3se.run_scripts.cli.parser import HfArgumentParser


@dataclass(kw_only=True)
class DiagnosisArguments(CandidateArguments, ScorerArguments):
    """Models to compare, the queries to compare them on, and where to write the report."""

    model: list[str] = option("NAME=FOLDER of each model: the teacher first, then its students.", REQUIRED)
    output: str = option("Folder for diagnostics.md, pictures and parquet files.", REQUIRED)
    stage: list[str] = option("NAME@STEP=FOLDER of earlier checkpoints.", list)
    size: list[str] = option("NAME=FOLDER of models of other embedding sizes.", list)
    split: str = option("The held-out queries.", "dev")
    train_split: str = option("The queries trained on; none: leave them out.", "train")
    candidates: str = option("bm25, or a run file or folder of lists for --split.", "bm25")
    depth: int = option("Candidates of a query.", 50)
    max_queries: int = option("Queries of each split, the first by hash of their id.", 200)
    capacity_queries: int = option("Rows of the teacher's score matrix.", 64)
    capacity_documents: int = option("Its columns: candidates of those queries.", 128)
    top: int = option("Rows of the table of disagreements.", 20)


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(DiagnosisArguments, description=__doc__)


def main(arguments: DiagnosisArguments) -> None:
    """Score the lists with every model and write the report."""
    load_work("diagnose").main(arguments)


if __name__ == "__main__":
    run(make_parser, main)
