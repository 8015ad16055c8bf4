"""The record of a prepared search: where its files are, and the state of all that they were made of."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from m3se.trainers.storage.atomic import write_json
from m3se.trainers.storage.cache import cache_key
from m3se.trainers.storage.state import State


FORMAT = 1  # raised when files of an earlier version can no longer be used


@dataclass(frozen=True)
class PreparedSearch:
    """The files of a search, and the texts that a query is made of.

    Attributes:
        query_encoder: folder of the ONNX file and the tokenizer that embed queries.
        encoding: folder of the documents' embeddings.
        documents: folder of the documents' texts.
        prompt: stands before every query.
        state: of the model and the data.
    """

    query_encoder: str
    encoding: str
    documents: str
    prompt: str
    state: State

    def write(self, file: Path) -> None:
        """Write the record, from which `read` makes it again."""
        write_json(file, asdict(self))

    @classmethod
    def read(cls, file: Path) -> "PreparedSearch | None":
        """Read a record. Return None where there is none, or where model or data are no longer what they were."""
        try:
            values: Mapping = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        record = cls(**values | {"state": State(**values["state"])})
        folders = record.query_encoder, record.encoding, record.documents
        return record if record.state.is_current() and all(map(Path.is_dir, map(Path, folders))) else None


def record_file(cache: Path, model: str, data: str, split: str | None) -> Path:
    """Return where the cache keeps the record of a model, a collection and a split."""
    places = [str(Path(name).resolve()) if Path(name).exists() else name for name in (model, data)]
    return cache / f"search-{cache_key(FORMAT, *places, split)}.json"
