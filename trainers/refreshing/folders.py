"""The drawn lists of a run on disk: a folder for each draw, complete or absent, until no checkpoint needs it."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from datasets import Dataset

from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import save_dataset
from m3se.trainers.storage.atomic import complete_folder, write_json
from m3se.trainers.storage.checksums import refuse_damaged


NAME = re.compile(r"negatives-([0-9]+)")
ROWS, REPORT = "rows.arrow", "report.json"


def negatives_folder(output: Path, step: int) -> Path:
    """Return the folder of the lists that were drawn after a step."""
    return output / f"negatives-{step}"


def negatives_folders(output: Path) -> dict[int, Path]:
    """Find the drawn lists of a run by their step."""
    steps = {}
    for path in output.glob("negatives-*"):
        if name := NAME.fullmatch(path.name):
            steps[int(name[1])] = path
    return steps


def write_negatives(output: Path, step: int, rows: Dataset, report: dict) -> None:
    """Write the lists that were drawn after a step, with a report of them."""
    with complete_folder(negatives_folder(output, step)) as new:
        save_dataset(rows, new / ROWS)
        write_json(new / REPORT, report)


def read_negatives(output: Path, step: int) -> Dataset:
    """Open the lists that were drawn after a step; raises InputError where they are missing or damaged."""
    folder = negatives_folder(output, step)
    advice = f"delete the checkpoints of {output} from step {step} on, and it goes on from an earlier one"
    if not (folder / ROWS).is_file():
        raise InputError(f"{folder}: the lists that were drawn after step {step} are missing; {advice}")
    refuse_damaged(folder, advice)
    return Dataset.from_file(str(folder / ROWS))


def delete_negatives(output: Path, steps: Iterable[int]) -> None:
    """Delete the drawn lists that are not the newest at one of these steps.

    Args:
        output: the run's folder.
        steps: those that training stands at, or could go on from.
    """
    folders = negatives_folders(output)
    used = set()
    for step in steps:
        used.add(max((drawn for drawn in folders if drawn <= step), default=None))
    for step in folders.keys() - used:
        shutil.rmtree(folders[step], ignore_errors=True)
