"""The folder of a Space that serves a published model. No network."""

from importlib.metadata import version
from pathlib import Path

from m3se.hub_cards.space import render_space
from m3se.trainers.errors import InputError
from m3se.trainers.models.backbones import as_input_errors
from m3se.trainers.storage.atomic import complete_folder


GRADIO = "6.31.0"  # the version that the tests ran with
WRITTEN = {"README.md", "requirements.txt", "app.py", "SHA256SUMS"}
NEXT = """the folder of the Space: {folder}. To put it on the Hub:

  hf repos create {space} --type space --sdk gradio
  hf upload {space} {folder} --type space"""


def write_space(space: str, model: str | None, folder: Path, license: str | None = None) -> str:
    """Write the folder of a Space, new or written before, and return what to do with it.

    Args:
        space: Hub id of the Space.
        model: Hub id of the published model, which is all that the Space starts from.
        folder: where the files go.
        license: of the Space, as the Hub names it.

    Raises:
        InputError: no model, an id that the Hub would refuse, or a folder that holds anything else.
    """
    if model is None:
        raise InputError("--repo: which published model of the Hub does the Space serve?")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or not names <= WRITTEN:
        raise InputError(f"{folder}: expected a new folder or one of a Space, got a file or other files in it")
    with as_input_errors():
        files = render_space(space, model, version("m3se"), GRADIO, license)
    with complete_folder(folder) as new:
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")
    return NEXT.format(space=space, folder=folder)
