"""The writing of a collection's embeddings: shards that are missing or damaged, in the format that reading expects."""

import json
import logging
import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.embedded_collection import (
    DESCRIPTION,
    FORMATS,
    EmbeddedCollection,
    read_description,
    shard_damage,
    shard_file,
)
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.storage.atomic import complete_file, write_text
from m3se.trainers.storage.checksums import checksum_lines


logger = logging.getLogger(__name__)


def encode_collection(
    scorer: DenseScorer,
    documents: DocumentTable,
    folder: str | Path,
    number_format: str = "float32",
    shard_size: int = 65_536,
    process: int = 0,
    processes: int = 1,
    side: str = "document",
) -> None:
    """Write the shards that `folder` lacks. A damaged shard is named in a warning, and written again.

    Args:
        scorer: embeds the documents.
        documents: the texts.
        folder: where the shards are, or will be.
        number_format: one of `FORMATS`.
        shard_size: documents of a shard.
        process, processes: this process's number and how many there are, of which each writes its share.
        side: "document", or "query" for texts that are embedded as queries.

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
        "width": known_width(scorer, folder, side) or first_width(scorer, documents, side),
        "format": number_format,
        "shard_size": shard_size,
        "collection": documents.fingerprint,
        "model": scorer.side_fingerprint(side),
    }
    if side == "query":
        description["side"] = side
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
            embeddings = scorer.encode(documents.texts(ids), side, bar)
            if not np.isfinite(embeddings).all():
                raise InputError(f"{folder}: the model gives embeddings that are not finite")
            write_shard(folder, rows.start // shard_size, ids, embeddings, number_format)


def known_width(scorer: DenseScorer, folder: Path, side: str) -> int | None:
    """Return the width that a folder's description has of the same model; None where it has none."""
    held = read_description(folder) if (folder / DESCRIPTION).exists() else {}
    return held.get("width") if held.get("model") == scorer.side_fingerprint(side) else None


def first_width(scorer: DenseScorer, documents: DocumentTable, side: str) -> int:
    """Return the width of the first text's embedding."""
    return scorer.encode(documents.texts(documents.ids[:1]), side, None).shape[1]


def cached_encoding(
    scorer: DenseScorer, documents: DocumentTable, cache_dir: str | Path, side: str = "document"
) -> EmbeddedCollection:
    """Open the collection as this model embeds it, in the cache, after encoding the shards that are missing there."""
    folder = encode_into_cache(scorer, documents, cache_dir, side)
    return EmbeddedCollection(folder)


def encode_into_cache(
    scorer: DenseScorer,
    documents: DocumentTable,
    cache_dir: str | Path,
    side: str = "document",
    process: int = 0,
    processes: int = 1,
) -> Path:
    """Write a process's share of the shards that the cache lacks of a collection; return their folder.

    Args:
        scorer, documents, process, processes, side: those of `encode_collection`.
        cache_dir: the cache.
    """
    folder = encoding_folder(scorer, documents, cache_dir, side)
    options = {"process": process, "processes": processes, "side": side}
    if (folder / DESCRIPTION).exists():  # begun, perhaps in another format
        description = read_description(folder)
        options |= {"number_format": description["format"], "shard_size": description["shard_size"]}
    encode_collection(scorer, documents, folder, **options)
    return folder


def complete_encoding(
    scorer: DenseScorer, documents: DocumentTable, cache_dir: str | Path
) -> EmbeddedCollection | None:
    """Open the collection as this model embeds it, in the cache; None where it is not, or not complete."""
    try:
        return EmbeddedCollection(encoding_folder(scorer, documents, cache_dir))
    except InputError:
        return None


def encoding_folder(
    scorer: DenseScorer, documents: DocumentTable, cache_dir: str | Path, side: str = "document"
) -> Path:
    """Return where the cache keeps the embeddings that this model makes of this collection."""
    identity = f"{scorer.side_fingerprint(side)} {documents.fingerprint}{' query' * (side == 'query')}"
    key = blake2b(identity.encode(), digest_size=8).hexdigest()
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


def check_description(folder: Path, description: dict) -> None:
    """Write the description of `folder`, or compare it. Raises InputError when the folder holds something else.

    Other processes may begin the same encoding meanwhile. They write the description first, so files that are seen
    before it is looked for belong to it.
    """
    files = visible_files(folder)
    if (folder / DESCRIPTION).exists():
        held = read_description(folder)
        for key, value in description.items():
            if held.get(key) != value:
                raise InputError(f"{folder}: holds an encoding with {key} {held.get(key)}, not {value}")
        return
    if files:
        raise InputError(f"{folder}: exists and holds no encoding; not overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / DESCRIPTION, json.dumps(description, indent=2) + "\n")


def visible_files(folder: Path) -> list[str]:
    """Return the names of a folder's files but for hidden ones, or its own name where it is a file itself."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return [folder.name]
    return [name for name in names if not name.startswith(".")]
