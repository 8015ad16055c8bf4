"""Where a published folder may be written, and what must not be in it."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m3se.modeling.publishing import code_files
from m3se.trainers.storage.atomic import complete_folder


# Names that libraries load a repository by. Left there from another model, each would spoil one published over it.
LAYOUT = {
    "config.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling",
    "2_Dense",
    "router_config.json",
    "query",
    "document",
    "artifact.metadata",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "chat_template.jinja",
}
KINDS_WITH_CODE = ("colbert", "dual_encoder")
FORMER_CODE = {"published.py"}  # the name of checkpoints.py in folders of before
CODE = {file.name for kind in KINDS_WITH_CODE for file in code_files(kind)} | FORMER_CODE
# Names that our writers put at the top of a folder; anything else there is somebody's own.
WRITTEN = LAYOUT | CODE | {"README.md", "images", "onnx", "openvino", ".eval_results", "SHA256SUMS"}
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")  # how the Hub's access tokens look
MARKERS = ("m3se", "auto_map")  # one of these is a key of every published config.json


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the name `folder`, and gets checksums, when the block succeeds.

    The card has none, since people edit it.

    Raises:
        ValueError: `folder` exists and is not one that was published before.
    """
    check_replaceable(folder)
    with complete_folder(folder, without_sums=("README.md",)) as staging:
        yield staging


def check_replaceable(folder: Path) -> None:
    """Refuse to overwrite anything but an empty folder or an earlier publication."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder to write")
    if foreign := sorted(set(os.listdir(folder)) - WRITTEN):
        raise ValueError(f"{folder} holds {foreign[0]!r}, which no published folder has: choose a new folder")
    if any(folder.iterdir()) and not is_published(folder):
        raise ValueError(f"{folder} is not empty and was not published from here: choose a new folder")


def is_published(folder: Path) -> bool:
    """Return True for a folder whose config.json is one of ours."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return not config.keys().isdisjoint(MARKERS)


def check_clean(folder: Path, private: list[Path], token: str | None) -> None:
    """Refuse a folder whose text files show one of the `private` paths, the `token`, or anything like a token.

    Raises:
        ValueError: the message names the file and says what is in it, without repeating a token.
    """
    for file in filter(Path.is_file, sorted(folder.rglob("*"))):
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights and pictures
        if TOKEN.search(text) or (token and token in text):
            raise ValueError(f"{file.name} would hold an access token; nothing was written")
        for path in private:
            if len(path.parts) > 1 and re.search(re.escape(str(path)) + r"(?![\w.-])", text):
                raise ValueError(f"{file.name} would show the local path {path}; nothing was written")
