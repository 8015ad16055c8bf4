"""A collection as embeddings on disk: shards of a fixed number of documents, memory-mapped, each complete or absent.

    encoding.json           what was encoded, with which model, in which format
    shard-00000.ids.arrow   ids, in the order of the document table
    shard-00000.scale.npy   int8 only: [n] float32, a row is its int8 values times its scale
    shard-00000.sums        checksums of the shard's files, read whenever a collection is opened
    shard-00000.npy         embeddings [n, H] as float32, float16 or int8; written last

The documents of a shard do not depend on the number of processes, so any number of processes can write shards, be
killed, and go on with those that are missing.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from m3se.trainers.errors import InputError
from m3se.trainers.storage.checksums import find_damage


FORMATS = {"float32": np.float32, "float16": np.float16, "int8": np.int8}
DESCRIPTION = "encoding.json"


class EmbeddedCollection:
    """The embeddings [N, H] in a folder that `encode_collection` has completed.

    Raises InputError when it has not, and when a file is not what was written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.description = read_description(self.folder)
        self.documents, self.width = self.description["documents"], self.description["width"]
        self.shard_size = self.description["shard_size"]
        refuse_incomplete(self.folder, self.description)

    def check(self, model: str, collection: str) -> None:
        """Raise InputError unless the collection with this fingerprint was embedded by the model with that one."""
        check_origin(self.folder, self.description, model, collection)

    def __len__(self) -> int:
        return self.documents

    def blocks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, embeddings [n, H] float32), at most `size` rows at a time, in order."""
        for shard in range(shard_count(self.documents, self.shard_size)):
            rows = min(self.shard_size, self.documents - shard * self.shard_size)
            for start in range(0, rows, size):
                # Mapped anew for every block: pages of blocks that are done no longer count as this process's memory.
                yield shard * self.shard_size + start, self._read(shard, slice(start, start + size))

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """Read the embeddings [n, H] float32 of some rows [n], in their order."""
        result = np.empty((len(rows), self.width), dtype=np.float32)
        shards = rows // self.shard_size
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            result[here] = self._read(shard, rows[here] % self.shard_size)
        return result

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Read the document ids of some rows, in their order."""
        rows = np.asarray(rows, dtype=np.int64)
        names = np.empty(len(rows), dtype=object)
        shards = rows // self.shard_size
        for shard in np.unique(shards):  # taking from all shards as one array would copy all of them
            here = np.flatnonzero(shards == shard)
            names[here] = self._ids[shard].take(pa.array(rows[here] % self.shard_size)).to_pylist()
        return names.tolist()

    @cached_property
    def _ids(self) -> list[pa.Array]:
        shards = range(shard_count(self.documents, self.shard_size))
        files = [pa.memory_map(str(shard_file(self.folder, shard, ".ids.arrow"))) for shard in shards]
        return [pa.ipc.open_file(file).read_all()["id"].combine_chunks() for file in files]

    def _read(self, shard: int, rows: slice | np.ndarray) -> np.ndarray:
        # Copy-on-write: a tensor can share the memory of rows that are float32 already, and the file is never written.
        stored = np.load(shard_file(self.folder, shard), mmap_mode="c", allow_pickle=False)[rows]
        if stored.dtype != np.int8:
            return np.asarray(stored, dtype=np.float32)
        scales = np.load(shard_file(self.folder, shard, ".scale.npy"), mmap_mode="r", allow_pickle=False)[rows]
        return stored.astype(np.float32) * scales[:, None]


def shard_damage(folder: Path, shard: int) -> str | None:
    """Say what is wrong with the files of a shard; None if nothing is."""
    return find_damage(folder, shard_file(folder, shard, ".sums").name)


def read_description(folder: Path) -> dict:
    """Read what a folder holds. Raises InputError when it has no description."""
    try:
        return json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: not an encoded collection: {DESCRIPTION} cannot be read ({error})") from error


def refuse_incomplete(folder: Path, description: dict) -> None:
    """Raise InputError when a shard of a folder is missing, or is not what was written."""
    shards = shard_count(description["documents"], description["shard_size"])
    if missing := [shard for shard in range(shards) if not shard_file(folder, shard).exists()]:
        raise InputError(
            f"{folder}: the encoding is not complete: {len(missing)} of {shards} shards are missing; "
            "encoding again does only those"
        )
    for shard in range(shards):
        if damage := shard_damage(folder, shard):
            raise InputError(f"{folder}: {damage}; encoding again does only that shard")


def check_origin(folder: Path, description: dict, model: str, collection: str) -> None:
    """Raise InputError unless a folder's description names the model and the collection with these fingerprints."""
    for key, wanted in (("model", model), ("collection", collection)):
        if description[key] != wanted:
            raise InputError(
                f"{folder}: encoded with {key} {description[key]}, this {key} is {wanted} "
                "(its weights, texts or number format are not the same)"
            )


def shard_file(folder: Path, shard: int, suffix: str = ".npy") -> Path:
    """Return the path of a file of a shard."""
    return folder / f"shard-{shard:05d}{suffix}"


def shard_count(documents: int, shard_size: int) -> int:
    """Return the number of shards that so many documents take."""
    return -(-documents // shard_size)
