"""Write the folder of a trained model that goes on the Hub.

python run_scripts/publish.py --model outputs/de-m3se --folder outputs/published/de-m3se
"""

from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from run_scripts.cli import run
from run_scripts.published_folder import build_folder


@dataclass
class PublishArguments:
    model: str = field(metadata={"help": "Directory of the trained model."})
    folder: str = field(metadata={"help": "Published folder to write; its name is the model's."})
    metrics: str | None = field(default=None, metadata={"help": "metrics.json of run_scripts/evaluate.py."})
    table: str | None = field(default=None, metadata={"help": "Markdown table for the card's results."})
    dataset: str | None = field(default=None, metadata={"help": "Data set that the metrics were measured on."})
    split: str | None = field(default=None, metadata={"help": "Its split."})
    base_model: str | None = field(default=None, metadata={"help": "Hub id of the model it was trained from."})
    license: str | None = field(default=None, metadata={"help": "Licence of the weights, such as apache-2.0."})
    language: str | None = field(default=None, metadata={"help": "Language of the texts, such as en."})
    datasets: list[str] | None = field(default=None, metadata={"help": "Hub ids of the training data."})
    data_notes: str | None = field(default=None, metadata={"help": "A sentence on the data's licence and limits."})


def make_parser() -> HfArgumentParser:
    return HfArgumentParser(PublishArguments)


def main(arguments: PublishArguments) -> None:
    folder = build_folder(
        Path(arguments.model),
        Path(arguments.folder),
        metrics=arguments.metrics and Path(arguments.metrics),
        table=arguments.table and Path(arguments.table),
        dataset=arguments.dataset,
        split=arguments.split,
        base_model=arguments.base_model,
        license=arguments.license,
        language=arguments.language,
        datasets=arguments.datasets,
        data_notes=arguments.data_notes,
    )
    print(f"published folder: {folder}")


if __name__ == "__main__":
    run(make_parser, main)
