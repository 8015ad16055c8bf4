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
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.storage.atomic import complete_file, write_text
from m3se.trainers.storage.checksums import checksum_lines, find_damage


logger = logging.getLogger(__name__)

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


def encode_collection(
    scorer: DenseScorer,
    documents: DocumentTable,
    folder: str | Path,
    number_format: str = "float32",
    shard_size: int = 65_536,
    process: int = 0,
    processes: int = 1,
) -> None:
    """Write the shards that `folder` lacks. A damaged shard is named in a warning, and written again.

    Args:
        scorer: embeds the documents.
        documents: the texts.
        folder: where the shards are, or will be.
        number_format: one of `FORMATS`.
        shard_size: documents of a shard.
        process, processes: this process's number and how many there are, of which each writes its share.

    Raises:
        InputError: the folder holds something else (another model, collection, format or shard size), the collection
            is empty, or an embedding is not finite.
    """
    folder = Path(folder)
    if number_format not in FORMATS:
        raise InputError(f"number format: expected one of {', '.join(FORMATS)}, got {number_format!r}")
    if len(documents) == 0 or shard_size < 1:
        raise InputError(f"nothing to encode: {len(documents)} documents in shards of {shard_size}")
    description = {
        "documents": len(documents),
        "width": scorer.encode(documents.texts(documents.ids[:1]), "document", None).shape[1],
        "format": number_format,
        "shard_size": shard_size,
        "collection": documents.fingerprint,
        "model": scorer.fingerprint,
    }
    check_description(folder, description)
    shards = [
        slice(start, min(start + shard_size, len(documents)))
        for start in range(process * shard_size, len(documents), processes * shard_size)
        if not shard_is_intact(folder, start // shard_size)
    ]
    total = sum(rows.stop - rows.start for rows in shards)
    with tqdm(total=total, desc="encoding", unit="document", disable=process > 0 or not shards) as bar:
        for rows in shards:
            ids = documents.ids[rows]
            embeddings = scorer.encode(documents.texts(ids), "document", bar)
            if not np.isfinite(embeddings).all():
                raise InputError(f"{folder}: the model gives embeddings that are not finite")
            write_shard(folder, rows.start // shard_size, ids, embeddings, number_format)


def cached_encoding(scorer: DenseScorer, documents: DocumentTable, cache_dir: str | Path) -> EmbeddedCollection:
    """Open the collection as this model embeds it, in the cache, after encoding the shards that are missing there."""
    folder = encoding_folder(scorer, documents, cache_dir)
    options = {}
    if (folder / DESCRIPTION).exists():  # begun, perhaps in another format
        description = read_description(folder)
        options = {"number_format": description["format"], "shard_size": description["shard_size"]}
    encode_collection(scorer, documents, folder, **options)
    return EmbeddedCollection(folder)


def complete_encoding(
    scorer: DenseScorer, documents: DocumentTable, cache_dir: str | Path
) -> EmbeddedCollection | None:
    """Open the collection as this model embeds it, in the cache; None where it is not, or not complete."""
    try:
        return EmbeddedCollection(encoding_folder(scorer, documents, cache_dir))
    except InputError:
        return None


def encoding_folder(scorer: DenseScorer, documents: DocumentTable, cache_dir: str | Path) -> Path:
    """Return where the cache keeps the embeddings that this model makes of this collection."""
    key = blake2b(f"{scorer.fingerprint} {documents.fingerprint}".encode(), digest_size=8).hexdigest()
    return Path(cache_dir) / f"encoding-{key}"


def write_shard(folder: Path, shard: int, ids: list[str], embeddings: np.ndarray, number_format: str) -> None:
    """Write the files of one shard, its embeddings last: a shard that has them is complete.

    Args:
        folder: of the encoding.
        shard: its number.
        ids: of the documents [n].
        embeddings: of the documents [n, H].
        number_format: one of `FORMATS`.
    """
    table = pa.table({"id": pa.array(ids, type=pa.large_string())})
    with (
        complete_file(shard_file(folder, shard, ".ids.arrow")) as path,
        pa.ipc.new_file(str(path), table.schema) as file,
    ):
        file.write_table(table)
    written = [shard_file(folder, shard, ".ids.arrow")]
    numbers, scales = quantized(embeddings, number_format)
    if scales is not None:
        written.append(shard_file(folder, shard, ".scale.npy"))
        with complete_file(written[-1]) as new:
            save_array(new, scales)
    last = shard_file(folder, shard)
    with complete_file(last) as new:
        save_array(new, numbers)
        files = {path.name: path for path in written} | {last.name: new}
        write_text(shard_file(folder, shard, ".sums"), checksum_lines(files))


def quantized(embeddings: np.ndarray, number_format: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return embeddings [n, H] in a format of `FORMATS`, and the scale [n] float32 of each of them for int8."""
    if number_format != "int8":
        return embeddings.astype(FORMATS[number_format]), None
    scales = np.maximum(np.abs(embeddings).max(axis=1), 1e-30) / 127
    return np.rint(embeddings / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array to a file of this very name, to which `numpy.save` would add a suffix."""
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def shard_is_intact(folder: Path, shard: int) -> bool:
    """Tell whether a shard is there and is what was written; warn of one that is not."""
    exists = shard_file(folder, shard).exists()
    damage = shard_damage(folder, shard) if exists else None
    if damage:
        logger.warning("%s: %s; encoded again", folder, damage)
    return exists and not damage


def shard_damage(folder: Path, shard: int) -> str | None:
    """Say what is wrong with the files of a shard; None if nothing is."""
    return find_damage(folder, shard_file(folder, shard, ".sums").name)


def check_description(folder: Path, description: dict) -> None:
    """Write the description of `folder`, or compare it. Raises InputError when the folder holds something else."""
    if (folder / DESCRIPTION).exists():
        held = read_description(folder)
        for key, value in description.items():
            if held.get(key) != value:
                raise InputError(f"{folder}: holds an encoding with {key} {held.get(key)}, not {value}")
        return
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise InputError(f"{folder}: exists and holds no encoding; not overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / DESCRIPTION, json.dumps(description, indent=2) + "\n")


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
