"""Teacher scores on disk, found again by teacher, query and document.

The key of a score is a hash of the teacher's fingerprint, the query's text and the document's text, so a changed
teacher, length limit or text finds nothing and an unchanged one finds its score, whatever data set it comes from.

A cache is a folder of shards, `<cache>/<fingerprint>/<random name>.scores`. A shard is written once, under a temporary
name, and then renamed: processes may share the folder, and a process that is killed leaves complete shards only.

    magic        8 bytes   b"M3SCORE1"
    count        8 bytes   n, unsigned, little endian
    checksum    32 bytes   blake2b of count, keys and scores
    keys      16 n bytes   sorted
    scores     4 n bytes   float32, little endian
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

import numpy as np

from m3se.trainers.errors import InputError


logger = logging.getLogger(__name__)

MAGIC = b"M3SCORE1"
HEADER_SIZE = 48
KEY = np.dtype("S16")  # compared as 16 unsigned bytes; numpy drops trailing zeros only when it makes a bytes object
SCORE = np.dtype("<f4")
ABANDONED_SECONDS = 3600  # a temporary file this old belongs to a process that was killed while it wrote


def pair_keys(fingerprint: str, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """Make the keys [n] of the pairs (queries[i], documents[i]) scored by the teacher with this fingerprint."""
    keys = bytearray()
    prefix, last = None, None
    for query, document in zip(queries, documents, strict=True):
        if query is not last:  # the lists of a query follow each other
            text = query.encode()
            prefix, last = blake2b(f"{fingerprint} {len(text)} ".encode() + text, digest_size=16), query
        digest = prefix.copy()
        digest.update(document.encode())
        keys += digest.digest()
    return np.frombuffer(bytes(keys), dtype=KEY)


class ScoreCache:
    """The scores of one teacher. Holds no score in memory: `lookup` streams over the shards."""

    def __init__(self, directory: str | Path, fingerprint: str):
        """Open or create the cache. Raises InputError when the folder cannot be created or written to."""
        self.fingerprint = fingerprint
        self.folder = Path(directory) / fingerprint
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".{uuid4().hex}.tmp"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(f"score cache {directory}: cannot be written to: {error.strerror}") from error
        self._remove_abandoned()

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Return the scores [n] of sorted distinct `keys` [n], NaN where the cache has none."""
        scores = np.full(len(keys), np.nan, dtype=np.float32)
        for shard_keys, shard_scores in self.shards():
            slots = np.searchsorted(keys, shard_keys)
            slots[slots == len(keys)] = 0
            matches = keys[slots] == shard_keys if len(keys) else np.zeros(len(slots), dtype=bool)
            scores[slots[matches]] = shard_scores[matches]
        return scores

    def shards(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keys and scores of every complete shard; a damaged one is put aside and named in a warning."""
        for path in sorted(self.folder.glob("*.scores")):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # another process put it aside
            if damage := find_damage(data):
                self._put_aside(path, damage)
                continue
            count = (len(data) - HEADER_SIZE) // (KEY.itemsize + SCORE.itemsize)
            keys = np.frombuffer(data, dtype=KEY, count=count, offset=HEADER_SIZE)
            yield keys, np.frombuffer(data, dtype=SCORE, offset=HEADER_SIZE + keys.nbytes)

    def add(self, keys: np.ndarray, scores: np.ndarray) -> None:
        """Write the finite `scores` [n] of `keys` [n] as one shard. Raises InputError when the disk refuses it."""
        if not np.isfinite(scores).all():
            raise ValueError("only finite scores can be kept")
        order = np.argsort(keys)
        payload = keys[order].tobytes() + scores[order].astype(SCORE).tobytes()
        count = len(keys).to_bytes(8, "little")
        name = uuid4().hex
        temporary = self.folder / f".{name}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(MAGIC + count + checksum(count + payload) + payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / f"{name}.scores")
        except OSError as error:
            raise InputError(
                f"score cache {self.folder}: a shard could not be written: {error.strerror}; "
                "the shards that are there are complete and will be reused"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _put_aside(self, path: Path, damage: str) -> None:
        logger.warning("score cache: %s is damaged (%s); put aside, its scores are computed again", path, damage)
        try:
            os.replace(path, path.with_suffix(".damaged"))
        except FileNotFoundError:
            return  # another process was first

    def _remove_abandoned(self) -> None:
        for path in self.folder.glob(".*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()
            except FileNotFoundError:
                continue


class ShardWriter:
    """A buffer of scores that writes a shard every `seconds` and the rest on leaving, be it by an interrupt."""

    def __init__(self, cache: ScoreCache, seconds: float):
        self.cache = cache
        self.seconds = seconds
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._last = time.monotonic()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_) -> None:
        self.flush()

    def add(self, keys: np.ndarray, scores: np.ndarray) -> None:
        """Take `scores` [n] of `keys` [n]."""
        self._pending.append((keys, scores))
        if time.monotonic() - self._last >= self.seconds:
            self.flush()

    def flush(self) -> None:
        """Write the scores that were collected, if any."""
        pending, self._pending = self._pending, []
        if pending:
            self.cache.add(*map(np.concatenate, zip(*pending, strict=True)))
        self._last = time.monotonic()


def checksum(data: bytes) -> bytes:
    """Return 32 bytes that any change of `data` changes."""
    return blake2b(data, digest_size=32).digest()


def find_damage(data: bytes) -> str | None:
    """Say what is wrong with the bytes of a shard; None when they are as they were written."""
    if data[: len(MAGIC)] != MAGIC or len(data) < HEADER_SIZE:
        return "not a score shard"
    count = int.from_bytes(data[8:16], "little")
    size = HEADER_SIZE + count * (KEY.itemsize + SCORE.itemsize)
    if len(data) != size:
        return f"{len(data)} bytes where its header announces {size}"
    if checksum(data[8:16] + data[HEADER_SIZE:]) != data[16:HEADER_SIZE]:
        return "its checksum does not match"
    return None
