"""Pictures of a card: copied into the published folder, as {file, caption} for the card."""

import re
import shutil
from pathlib import Path

from m3se.run_scripts.publishing.card_values import read_text
from m3se.trainers.errors import InputError


CURVE_COLUMNS = {"step": "step", "dev": "dev nDCG@10", "train": "train nDCG@10"}
DIAGNOSTICS = ("distributions_dev_centred", "margins", "calibration")  # of diagnose.py's pictures, those of any model


def draw_learning_curve(folder: Path, name: str, rows: list[dict]) -> list[dict]:
    """Draw nDCG@10 on training and dev queries, from a card's `curve` -> {file, caption} of the picture.

    Without two evaluations of both there is none.
    """
    if len(rows) < 2 or not {"dev nDCG@10", "train nDCG@10"} <= rows[0].keys():
        return []
    from m3se.hub_cards.plots import learning_curves  # with matplotlib, a second of every start

    curve = {}
    for column, key in CURVE_COLUMNS.items():
        curve[column] = [row[key] for row in rows]
    figure = learning_curves({name: curve}, "nDCG@10", "nDCG@10 on training and on held-out queries")
    path = folder / "images" / "learning_curve.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    caption = "Re-ranking while it learned: where the two curves part, the model fits the training queries only."
    return [{"file": "images/learning_curve.png", "caption": caption}]


def copy_pictures(folder: Path, pictures: dict[Path, str]) -> list[dict]:
    """Copy picture files into `folder`/images -> the card's {file, caption} of each.

    Raises:
        InputError: there is no such file.
    """
    copied = []
    for file, caption in pictures.items():
        if not file.is_file():
            raise InputError(f"{file}: no such picture")
        (folder / "images").mkdir(exist_ok=True)
        shutil.copyfile(file, folder / "images" / file.name)
        copied.append({"file": f"images/{file.name}", "caption": caption})
    return copied


def diagnostic_pictures(folder: Path | None) -> dict[Path, str]:
    """Return the pictures that a card shows of a folder of diagnose.py, each with the heading it has there.

    Raises:
        InputError: the folder has no diagnostics.md.
    """
    if folder is None:
        return {}
    shown = re.findall(r"^!\[(.*)\]\((.*)\.png\)$", read_text(folder / "diagnostics.md"), flags=re.MULTILINE)
    return {folder / f"{name}.png": heading for heading, name in shown if name in DIAGNOSTICS}
