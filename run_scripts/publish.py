"""Write the folder of a trained model that goes on the Hub, and upload it when a repository is named.

    python run_scripts/publish.py --model outputs/de-m3se --folder outputs/published/de-m3se
    python run_scripts/publish.py --model outputs/de-m3se --folder outputs/published/de-m3se --repo org/de-m3se
    python run_scripts/publish.py --collection "Distilled rankers" --members outputs/published/* --folder outputs/study
    python run_scripts/publish.py --space org/de-m3se-demo --repo org/de-m3se --folder outputs/space

The first needs no network. The second shows what will change, uploads it in one commit and looks that every file has
arrived; the access token is HF_TOKEN's or that of `hf auth login`. The third writes a card that links the published
models of a study, and with `--repo org` makes a collection of them on the Hub. The fourth writes the folder of a
Space, a page on which visitors try the published model.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import REQUIRED, option
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.trainers.errors import InputError


def format_option(library: str) -> str | None:
    """Return the option to add the files of a library; without a value it means float32."""
    text = f"Add files for {library}: float32, or int8 for these and others in int8 (without a value: float32)."
    return field(default=None, metadata={"help": text, "nargs": "?", "const": "float32"})


@dataclass(kw_only=True)
class PublishArguments:
    """Options on the model and where it goes."""

    folder: str = option("Published folder to write; its name is the model's.", REQUIRED)
    model: str | None = option("Directory of the trained model.")
    repo: str | None = option("Hub repository to upload to, such as org/de-m3se.")
    private: bool = option("A new repository is private.", False)
    revision: str = option("Branch to upload to, created if need be.", "main")
    dry_run: bool = option("Show what would be uploaded, and stop.", False)
    collection: str | None = option("Title of a collection to make instead.")
    members: list[str] = option("Published folders of the collection.", list)
    space: str | None = option("Hub id of a Space that serves the model of --repo; its folder is written instead.")


@dataclass(kw_only=True)
class CardArguments:
    """Options on the card's contents."""

    metrics: str | None = option("metrics.json of run_scripts/evaluate.py.")
    table: str | None = option("Markdown table for the card's results.")
    significance: str | None = option("Markdown on which differences are real.")
    dataset: str | None = option("Data set of the metrics (default: as they say).")
    split: str | None = option("Its split.")
    benchmark: str | None = option("Benchmark registered on the Hub to report to: org/dataset:task:measure.")
    paper: str | None = option("Row of the paper to show beside, such as 'table1:M3SE:MSMARCO re-rank'.")
    diagnostics: str | None = option("Output folder of run_scripts/diagnose.py.")
    pictures: list[str] = option("Pictures, each FILE or FILE=caption.", list)
    base_model: str | None = option("Hub id of the model it was trained from.")
    teacher: str | None = option("Hub id of its teacher (default: the local name).")
    license: str | None = option("Licence of the weights as the Hub names it, such as apache-2.0.")
    language: str | None = option("Language of the texts as a code of two or three letters, such as en.")
    datasets: list[str] = option("Hub ids of the training data.", list)
    data_notes: str | None = option("A sentence on the data's licence and limits.")
    openvino: str | None = format_option("OpenVINO (extra openvino)")
    onnx: str | None = format_option("ONNX Runtime, fastembed and others (extra onnx)")
    calibration: str | None = option("Collection whose texts int8 is calibrated on; its queries measure the loss.")
    calibration_split: str = option("Which of its queries.", "test")
    cache_dir: str = option("Where that collection and the files are prepared.", "outputs/cache")

    def card_values(self) -> dict:
        """Return the arguments of `build_folder`: paths as such, a row of the paper and captions looked up."""
        from m3se.run_scripts.publishing.card_values import paper_values
        from m3se.run_scripts.publishing.compiled_files import CompiledFiles

        values = {name: value for name, value in vars(self).items() if value not in (None, [])}
        chosen = {field_.name: values.pop(field_.name, None) for field_ in fields(CompiledFiles)}
        values["compiled"] = CompiledFiles(**chosen)
        files = values.keys() & {"metrics", "table", "significance", "diagnostics"}
        for name in files:
            values[name] = Path(values[name])
        if "paper" in values:
            values["paper"] = paper_values(self.paper)
        if "pictures" in values:
            values["pictures"] = {}
            for text in self.pictures:
                file, _, caption = text.partition("=")
                values["pictures"][Path(file)] = caption or Path(file).stem.replace("_", " ")
        return values


def make_parser() -> HfArgumentParser:
    """Return the parser of the command's options."""
    return HfArgumentParser((PublishArguments, CardArguments), description=__doc__)


def main(arguments: PublishArguments, card: CardArguments) -> None:
    """Publish a model, or write the card of a collection and make the collection."""
    from huggingface_hub import HfApi

    from m3se.run_scripts.publishing.hub_collection import make_collection, write_collection_card
    from m3se.run_scripts.publishing.push import publish
    from m3se.run_scripts.publishing.space import write_space

    folder = Path(arguments.folder)
    if arguments.collection is not None:
        members = list(map(Path, arguments.members))
        print(write_collection_card(arguments.collection, members, folder, arguments.repo, card.datasets))
        if arguments.repo and not arguments.dry_run:
            print(make_collection(HfApi(), arguments.collection, members, arguments.repo, card.datasets))
        return
    if arguments.space is not None:
        print(write_space(arguments.space, arguments.repo, folder, card.license))
        return
    if arguments.model is None:
        raise InputError("--model: which directory holds the trained model?")
    hub = {"private": arguments.private, "revision": arguments.revision, "dry_run": arguments.dry_run}
    publish(Path(arguments.model), folder, arguments.repo, **hub, **card.card_values())


if __name__ == "__main__":
    run(make_parser, main)
