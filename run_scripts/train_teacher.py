"""Train the teacher: a cross-encoder, by one-hot softmax cross-entropy over positives and BM25 negatives.

    accelerate launch run_scripts/train_teacher.py --recipe run_scripts/recipes/stages/teacher.yaml

Writes a checkpoint that score_with_teacher.py, evaluate.py and publish.py read. Beside it lie training.json,
data_report.json, which counts what was read and left out, and train_queries.npy, by which its queries are known again.
A second run with the same options and data reuses it; an interrupted one goes on from its last checkpoint.
"""

from dataclasses import dataclass

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.arguments import DevArguments, EncoderArguments, RunArguments, option
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.run_scripts.cli.training_options import training_parser


@dataclass
class TeacherData:
    """The queries that a teacher is trained on, and their lists."""

    _argument_group_name = "data"

    data: str = option(
        "pydocs (documentation of the installed libraries), a folder or Hub id of queries, or a folder of ranking "
        "lists, which are used as they are.",
        "pydocs",
    )
    documents_per_query: int = option("K: the positives and BM25 negatives of a query.", 8)
    depth: int = option("Negatives are drawn from BM25's top this many.", 50)
    train_queries: int | None = option("Use this many, the first by hash of their id.")
    label_noise: float | None = option("Move the label of this share of the lists to another document.")
    folds: int = option(
        "Train so many teachers, each on a part of the queries, in output_dir/fold-1 and so on; score_with_teacher.py "
        "then lets no teacher score what it was trained on.",
        1,
    )
    fold: int | None = option("Train only this one of them.")


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return training_parser((TeacherData, EncoderArguments, DevArguments, RunArguments), __doc__)


def main(*options: object) -> None:
    """Train the teacher, or one on each fold of the queries; the options are those of `work.train_teacher.main`."""
    load_work("train_teacher").main(*options)


if __name__ == "__main__":
    run(make_parser, main)
