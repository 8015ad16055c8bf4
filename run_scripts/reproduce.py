"""Reproduce a table or figure of the paper by one command: plan, train, measure, report beside the paper's numbers.

    python run_scripts/reproduce.py --study table1 --scale small --data BEIR_FOLDER --output outputs/studies

The plan comes first (--dry_run stops there). A run is done when its last file is there; stop this whenever you like
and start it again to go on. Teachers, teacher scores and students that two studies share are computed once. Writes for
each study results.json, report.md and its plots into OUTPUT/STUDY; what the scripts said is in OUTPUT/logs.
"""

from dataclasses import dataclass, field

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.run_scripts.reproduction.study import RECIPES, study_names


@dataclass
class ReproductionArguments:
    """Options of reproduce.py."""

    study: list[str] = field(metadata={"help": f"One or more of {', '.join(study_names(RECIPES))}."})
    scale: str = field(
        default="small",
        metadata={
            "help": "small: a laptop or one GPU; medium: whole paragraphs, half an hour a student; pydocs: installed "
            "documentation, a quarter of an hour; paper: Appendix B on GPUs."
        },
    )
    data: str | None = field(
        default=None,
        metadata={"help": "The collection: a BEIR folder (small, medium), or what the scale's recipes read."},
    )
    transfer: str | None = field(
        default=None, metadata={"help": "Another collection, whose test queries are only measured, never trained on."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "A student is trained with each."})
    only: list[str] = field(default_factory=list, metadata={"help": "Only these rows (and the baseline)."})
    evaluations: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Only the columns of these, such as rerank or retrieval, and the predicted one. A later call "
            "without it measures the rest."
        },
    )
    output: str = field(default="outputs/studies", metadata={"help": "Folder for all that is computed."})
    recipes: str = field(default=str(RECIPES), metadata={"help": "Folder with scales.yaml and a folder per study."})
    dry_run: bool = field(default=False, metadata={"help": "Only print the plan."})
    gpus: int | None = field(default=None, metadata={"help": "Run on so many (default: all there are)."})
    gpus_per_run: int = field(default=1, metadata={"help": "Train each model on so many of them."})
    cpu_runs: int = field(
        default=1, metadata={"help": "Without a GPU: so many runs at a time, each with its share of the cores."}
    )


def make_parser() -> HfArgumentParser:
    """Describe the options."""
    return HfArgumentParser(ReproductionArguments, description=__doc__)


def main(arguments: ReproductionArguments) -> None:
    """Print the plan, run its jobs and write the reports."""
    load_work("reproduce").main(arguments)


if __name__ == "__main__":
    run(make_parser, main)
