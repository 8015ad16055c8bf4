"""Write the folder of a trained model that goes on the Hub, and upload it when a repository is named.

    python run_scripts/publish.py --model outputs/de-m3se --folder outputs/published/de-m3se
    python run_scripts/publish.py --model outputs/de-m3se --folder outputs/published/de-m3se --repo org/de-m3se
    python run_scripts/publish.py --collection "Distilled rankers" --members outputs/published/* --folder outputs/study

The first needs no network. The second shows what will change, uploads it in one commit, downloads it again and
compares scores; the access token is HF_TOKEN's or that of `hf auth login`. The third writes a card that links the
published models of a study, and with `--repo org` makes a collection of them on the Hub.
"""

from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from transformers import HfArgumentParser

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.publishing.build import build_folder, compare_scores
from m3se.run_scripts.publishing.card_values import paper_values
from m3se.run_scripts.publishing.hub_collection import make_collection, write_collection_card
from m3se.run_scripts.publishing.upload import check_token, downloaded, make_plan, upload
from m3se.trainers.errors import InputError


@dataclass
class PublishArguments:
    folder: str = field(metadata={"help": "Published folder to write; its name is the model's."})
    model: str | None = field(default=None, metadata={"help": "Directory of the trained model."})
    repo: str | None = field(default=None, metadata={"help": "Hub repository to upload to, such as org/de-m3se."})
    private: bool = field(default=False, metadata={"help": "A new repository is private."})
    revision: str = field(default="main", metadata={"help": "Branch to upload to, created if need be."})
    dry_run: bool = field(default=False, metadata={"help": "Show what would be uploaded, and stop."})
    collection: str | None = field(default=None, metadata={"help": "Title of a collection to make instead."})
    members: list[str] = field(default_factory=list, metadata={"help": "Published folders of the collection."})


@dataclass
class CardArguments:
    metrics: str | None = field(default=None, metadata={"help": "metrics.json of run_scripts/evaluate.py."})
    table: str | None = field(default=None, metadata={"help": "Markdown table for the card's results."})
    significance: str | None = field(default=None, metadata={"help": "Markdown on which differences are real."})
    dataset: str | None = field(default=None, metadata={"help": "Data set of the metrics (default: as they say)."})
    split: str | None = field(default=None, metadata={"help": "Its split."})
    benchmark: str | None = field(
        default=None,
        metadata={"help": "Benchmark registered on the Hub to report to: org/dataset:task:measure."},
    )
    paper: str | None = field(
        default=None, metadata={"help": "Row of the paper to show beside, such as 'table1:M3SE:MSMARCO re-rank'."}
    )
    diagnostics: str | None = field(default=None, metadata={"help": "Output folder of run_scripts/diagnose.py."})
    pictures: list[str] = field(default_factory=list, metadata={"help": "Pictures, each FILE or FILE=caption."})
    base_model: str | None = field(default=None, metadata={"help": "Hub id of the model it was trained from."})
    teacher: str | None = field(default=None, metadata={"help": "Hub id of its teacher (default: the local name)."})
    license: str | None = field(default=None, metadata={"help": "Licence of the weights, such as apache-2.0."})
    language: str | None = field(default=None, metadata={"help": "Language of the texts, such as en."})
    datasets: list[str] = field(default_factory=list, metadata={"help": "Hub ids of the training data."})
    data_notes: str | None = field(default=None, metadata={"help": "A sentence on the data's licence and limits."})
    onnx: bool = field(default=False, metadata={"help": "Add onnx/model.onnx (needs the extra onnx)."})

    def card_values(self) -> dict:
        """Arguments of `build_folder`."""
        values = {name: value for name, value in vars(self).items() if value not in (None, [])}
        files = values.keys() & {"metrics", "table", "significance", "diagnostics"}
        values |= {name: Path(values[name]) for name in files}
        if "paper" in values:
            values["paper"] = paper_values(self.paper)
        if "pictures" in values:
            pairs = [(Path(file), caption) for file, _, caption in (text.partition("=") for text in self.pictures)]
            values["pictures"] = {file: caption or file.stem.replace("_", " ") for file, caption in pairs}
        return values


def make_parser() -> HfArgumentParser:
    return HfArgumentParser((PublishArguments, CardArguments), description=__doc__)


def main(arguments: PublishArguments, card: CardArguments) -> None:
    folder = Path(arguments.folder)
    if arguments.collection is not None:
        members = [Path(member) for member in arguments.members]
        print(write_collection_card(arguments.collection, members, folder, arguments.repo, card.datasets))
        if arguments.repo and not arguments.dry_run:
            print(make_collection(HfApi(), arguments.collection, members, arguments.repo, card.datasets))
        return
    if arguments.model is None:
        raise InputError("--model: which directory holds the trained model?")
    hub = {"private": arguments.private, "revision": arguments.revision, "dry_run": arguments.dry_run}
    publish(Path(arguments.model), folder, arguments.repo, **hub, **card.card_values())


def publish(
    model: Path,
    folder: Path,
    repo: str | None = None,
    *,
    private: bool = False,
    revision: str = "main",
    dry_run: bool = False,
    api: HfApi | None = None,
    **card_values,
) -> str | None:
    """Build the published folder; with `repo` upload it and check what came of it. Returns the commit's id, if any.

    `card_values` are the other arguments of `build_folder`.

    Raises:
        InputError: something that the user can mend; the repository then is as it was, or complete, and the message
            says which.
    """
    api = api or HfApi()
    if repo is not None:
        check_token(api)
    print(f"published folder: {build_folder(model, folder, load_id=repo, **card_values)}")
    if repo is None:
        return None
    plan = make_plan(api, folder, repo, revision, private)
    print(plan)
    if dry_run:
        return None
    commit = upload(api, folder, plan, private)
    with downloaded(api, repo, commit, folder) as copy:
        compare_scores(model, copy)
    print(f"{api.endpoint}/{repo}/tree/{commit}: downloaded again, every file and score is the same")
    return commit


if __name__ == "__main__":
    run(make_parser, main)
