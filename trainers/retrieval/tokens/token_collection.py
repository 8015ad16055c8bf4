"""The token embeddings of a collection on disk: shards of a fixed number of documents, each complete or absent.

    encoding.json             what was embedded, with which model, in which format
    shard-00000.lengths.npy   tokens of each document [n] int64
    shard-00000.scale.npy     int8 only: [T] float32, a token is its int8 values times its scale
    shard-00000.sums          checksums of the shard's files
    shard-00000.npy           all tokens of its documents [T, H] as float16 or int8; written last

Shards are memory-mapped: a search reads the tokens of its candidates only.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.embedded_collection import (
    check_origin,
    read_description,
    refuse_incomplete,
    shard_count,
    shard_file,
)
from m3se.trainers.retrieval.encode_collection import check_description, quantized, save_array, shard_is_intact
from m3se.trainers.retrieval.scorers import TOKEN_EMBEDDED, ColBERTScorer
from m3se.trainers.retrieval.tokens.pooling import pool_tokens
from m3se.trainers.storage.atomic import complete_file, write_text
from m3se.trainers.storage.checksums import checksum_lines


FORMATS = {"float16": np.float16, "int8": np.int8}
SHARD_SIZE = 4_096  # documents; 210 MB of 200 float16 tokens of 128 numbers
SHARDS_OPEN = 4_096
LENGTHS, SCALES = ".lengths.npy", ".scale.npy"


class Shard(NamedTuple):
    """The memory-mapped tokens [T, H] of a shard, the scales [T] of int8, and where each document begins [n + 1]."""

    tokens: np.ndarray
    scales: np.ndarray | None
    starts: np.ndarray


class TokenCollection:
    """The token embeddings in a folder that `encode_tokens` has completed.

    Raises InputError when it has not, and when a file is not what was written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.description = read_description(self.folder)
        self.documents, self.shard_size = self.description["documents"], self.description["shard_size"]
        refuse_incomplete(self.folder, self.description)
        self._open = lru_cache(SHARDS_OPEN)(self._open_shard)

    def __len__(self) -> int:
        return self.documents

    def check(self, model: str, collection: str) -> None:
        """Raise InputError unless the collection with this fingerprint was embedded by the model with that one."""
        check_origin(self.folder, self.description, model, collection)

    def count(self) -> int:
        """Count the tokens of all documents."""
        shards = range(shard_count(self.documents, self.shard_size))
        return sum(int(self._open(shard).starts[-1]) for shard in shards)

    def tokens(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read all tokens [T, H] float32 of some documents [n], and how many each of them has [n]."""
        parts, scales, lengths = [], [], []
        for row in rows.tolist():
            shard, place = self._open(row // self.shard_size), row % self.shard_size
            span = slice(shard.starts[place], shard.starts[place + 1])
            parts.append(shard.tokens[span])
            lengths.append(len(parts[-1]))
            if shard.scales is not None:
                scales.append(shard.scales[span])
        tokens = np.concatenate(parts).astype(np.float32)
        if scales:
            tokens *= np.concatenate(scales)[:, None]
        return tokens, np.array(lengths)

    def _open_shard(self, number: int) -> Shard:
        tokens = np.load(shard_file(self.folder, number), mmap_mode="r", allow_pickle=False)
        lengths = np.load(shard_file(self.folder, number, LENGTHS), allow_pickle=False)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        if tokens.dtype != np.int8:
            return Shard(tokens, None, starts)
        return Shard(tokens, np.load(shard_file(self.folder, number, SCALES), mmap_mode="r"), starts)


def encode_tokens(
    scorer: ColBERTScorer,
    documents: DocumentTable,
    folder: str | Path,
    number_format: str = "float16",
    pool_factor: int = 1,
    process: int = 0,
    processes: int = 1,
    shard_size: int = SHARD_SIZE,
) -> None:
    """Write the shards that `folder` lacks. A damaged shard is named in a warning, and written again.

    Args:
        scorer: embeds the documents.
        documents: the texts.
        folder: where the shards are, or will be.
        number_format: one of `FORMATS`.
        pool_factor: how many tokens become one.
        process, processes: this process's number and how many there are, of which each writes its share.
        shard_size: documents of a shard.

    Raises:
        InputError: the folder holds something else, or the collection is empty, or a format or factor is none.
    """
    folder = Path(folder)
    check_token_options(number_format, pool_factor)
    if len(documents) == 0:
        raise InputError("nothing to embed: the collection has no documents")
    description = {"documents": len(documents), "tokens": "ColBERT", "format": number_format}
    description |= {"pool_factor": pool_factor, "shard_size": shard_size}
    check_description(folder, description | {"collection": documents.fingerprint, "model": scorer.fingerprint})
    shards = []
    for shard in range(process, shard_count(len(documents), shard_size), processes):
        if not shard_is_intact(folder, shard):
            shards.append(range(shard * shard_size, min((shard + 1) * shard_size, len(documents))))
    total = sum(map(len, shards))
    with tqdm(total=total, desc="embedding tokens", unit="document", disable=process > 0 or not shards) as bar:
        for rows in shards:
            write_tokens(folder, rows.start // shard_size, shard_parts(scorer, documents, rows, description, bar))


def shard_parts(
    scorer: ColBERTScorer, documents: DocumentTable, rows: range, description: dict, bar: tqdm
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray | None]]:
    """Yield lengths, stored tokens and scales of the documents of a shard, some documents at a time.

    Args:
        scorer: embeds the documents.
        documents: the texts.
        rows: of the documents.
        description: format and pool factor.
        bar: is advanced by one per document.
    """
    normalize, number_format = scorer.model.config.normalize, description["format"]
    for start in range(rows.start, rows.stop, TOKEN_EMBEDDED):
        texts = documents.texts_at(range(start, min(start + TOKEN_EMBEDDED, rows.stop)))
        arrays = []
        for tokens in scorer.encode(texts, "document", bar):
            arrays.append(pool_tokens(tokens, description["pool_factor"], normalize))
        tokens = np.concatenate(arrays)
        if not np.isfinite(tokens).all():
            raise InputError("the model gives token embeddings that are not finite")
        yield list(map(len, arrays)), *quantized(tokens, number_format)


def write_tokens(folder: Path, number: int, parts: Iterator[tuple[list[int], np.ndarray, np.ndarray | None]]) -> None:
    """Write the files of one shard, its tokens last: a shard that has them is complete."""
    lengths, tokens, scales = map(list, zip(*parts, strict=True))
    arrays = {LENGTHS: np.concatenate(lengths).astype(np.int64)}
    if scales[0] is not None:
        arrays[SCALES] = np.concatenate(scales)
    files = {}
    for suffix, array in arrays.items():
        path = shard_file(folder, number, suffix)
        with complete_file(path) as new:
            save_array(new, array)
        files[path.name] = path
    last = shard_file(folder, number)
    with complete_file(last) as new:
        save_array(new, np.concatenate(tokens))
        write_text(shard_file(folder, number, ".sums"), checksum_lines(files | {last.name: new}))


def check_token_options(number_format: str, pool_factor: int) -> None:
    """Raise InputError for a format or a pool factor that is none."""
    if number_format not in FORMATS:
        raise InputError(f"--token_format: expected {' or '.join(FORMATS)}, got {number_format!r}")
    if pool_factor < 1:
        raise InputError(f"--pool_factor: expected 1 or more, got {pool_factor}")


def cached_tokens(
    scorer: ColBERTScorer, documents: DocumentTable, cache_dir: str | Path, number_format: str, pool_factor: int
) -> TokenCollection:
    """Open the collection's tokens in the cache, after embedding the shards that are missing there.

    Args:
        scorer: embeds the documents.
        documents: the texts.
        cache_dir: of the cache.
        number_format, pool_factor: as in `encode_tokens`.
    """
    folder = token_folder(scorer, documents, cache_dir, number_format, pool_factor)
    encode_tokens(scorer, documents, folder, number_format, pool_factor)
    return TokenCollection(folder)


def token_folder(
    scorer: ColBERTScorer, documents: DocumentTable, cache_dir: str | Path, number_format: str, pool_factor: int
) -> Path:
    """Return where the cache keeps the tokens that this model makes of this collection.

    Args:
        scorer, documents: the model and the collection.
        cache_dir: of the cache.
        number_format, pool_factor: as in `encode_tokens`.
    """
    parts = scorer.fingerprint, documents.fingerprint, number_format, str(pool_factor)
    return Path(cache_dir) / f"tokens-{blake2b(' '.join(parts).encode(), digest_size=8).hexdigest()}"
