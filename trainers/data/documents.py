"""The document table, id → text, for collections that do not fit in memory.

Texts stay in a memory-mapped Arrow file. The index is two numpy arrays, the sorted 64-bit hashes of the ids and the
positions they belong to: 16 bytes per document, where a dict of 8.8 million ids takes more than a gigabyte. Hashes may
collide, so an id is compared with the stored one on every access. Passes over the whole table read the file instead of
its memory map, which would make every page that was touched resident.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from operator import eq
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value, concatenate_datasets
from xxhash import xxh3_64_intdigest

from m3se.trainers.errors import InputError, shorten
from m3se.trainers.storage.arrow import dataset_batches, read_batches, save_dataset
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.checksums import refuse_damaged


DOCUMENT_FEATURES = Features({"id": Value("string"), "text": Value("string")})
FILES = ("documents.json", "hashes.npy", "order.npy", "table.arrow")


class DocumentTable:
    """Texts by id, over a Dataset with the string columns `id` and `text`.

    Raises:
        InputError: an id occurs twice.
    """

    def __init__(self, dataset: Dataset):
        self._set(dataset, None)
        if repeated := self.repeated():
            first, count = next(iter(repeated)), len(repeated)
            raise InputError(f"document id {shorten(first)} occurs more than once (ids that do: {count})")

    @classmethod
    def from_texts(cls, ids: Sequence[str], texts: Sequence[str]) -> "DocumentTable":
        """Make a small table that is held in memory."""
        table = pa.table({"id": list(ids), "text": list(texts)}, schema=DOCUMENT_FEATURES.arrow_schema)
        return cls(Dataset(table))

    @classmethod
    def unchecked(cls, file: Path) -> "DocumentTable":
        """Open an Arrow file of ours whose ids may repeat, to look for repeated ones."""
        table = cls.__new__(cls)
        table._set(Dataset.from_file(str(file)), file)
        return table

    def _set(self, dataset: Dataset, file: Path | None, index: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        self._dataset = dataset.with_format(None)
        self._file = file
        self._hashes, self._order = index or _index(self._scan())

    def _scan(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows, in batches of any size."""
        return dataset_batches(self._dataset) if self._file is None else read_batches(self._file)

    def __len__(self) -> int:
        return len(self._dataset)

    def __contains__(self, document: str) -> bool:
        return self.find([document])[0] >= 0

    @property
    def folder(self) -> Path | None:
        """Return the folder that the table was opened from; None for one that is in memory."""
        return None if self._file is None else self._file.parent

    @property
    def ids(self) -> Sequence[str]:
        """Return all ids in the order of the table, read from disk as they are needed."""
        return self._dataset["id"]

    def ids_at(self, positions: Sequence[int] | np.ndarray) -> list[str]:
        """Return the ids of rows by number, which may repeat."""
        return self._ids.take(pa.array(positions, type=pa.int64())).to_pylist()

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """Return the row numbers [len(ids)] (int64) of `ids`, which may repeat; −1 for unknown ids."""
        rows = np.full(len(ids), -1, dtype=np.int64)
        if len(self) == 0 or len(ids) == 0:
            return rows
        hashes = _hashed(ids)
        slots = np.searchsorted(self._hashes, hashes)
        sought = np.arange(len(ids))
        while len(sought):  # a second round only for ids whose hash another id shares
            sought = sought[slots[sought] < len(self)]
            sought = sought[self._hashes[slots[sought]] == hashes[sought]]
            candidates = self._order[slots[sought]]
            names = self.ids_at(candidates)
            same = np.fromiter(map(eq, map(ids.__getitem__, sought), names), bool, len(sought))
            rows[sought[same]] = candidates[same]
            sought = sought[~same]
            slots[sought] += 1
        return rows

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Return row numbers as `find` does. Raises InputError naming an unknown id."""
        positions = self.find(ids)
        if (positions < 0).any():
            unknown = self.missing(ids)
            raise InputError(
                f"unknown document id {shorten(unknown[0])} ({len(unknown)} of {len(ids)} ids are unknown)"
            )
        return positions

    def texts(self, ids: Sequence[str]) -> list[str]:
        """Return the texts of `ids`, which may repeat. Raises InputError naming an unknown id."""
        return self.texts_at(self.positions(ids))

    def texts_at(self, positions: Sequence[int]) -> list[str]:
        """Return the texts of rows by number, as `positions` gives them."""
        return self._dataset[positions]["text"]

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Select the ids that the table does not have, in their order."""
        return [ids[i] for i in np.flatnonzero(self.find(ids) < 0)]

    def batches(self, size: int = 1_000) -> Iterator[tuple[list[str], list[str]]]:
        """Yield all ids and texts in the order of the table, at most `size` at a time."""
        for batch in self._scan():
            for start in range(0, len(batch), size):
                part = batch.slice(start, size)
                yield part.column("id").to_pylist(), part.column("text").to_pylist()

    @cached_property
    def fingerprint(self) -> str:
        """Hash all ids and texts in their order: equal in every process and on every machine."""
        digests = [blake2b(digest_size=16) for _ in range(4)]
        for batch in self._scan():
            content = (*_content(batch.column("id")), *_content(batch.column("text")))
            for digest, part in zip(digests, content, strict=True):
                digest.update(part)
        return blake2b(b"".join(digest.digest() for digest in digests), digest_size=16).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the table to a folder of its own, which appears only when complete."""
        with complete_folder(folder) as new:
            self.write_into(new)

    def write_into(self, folder: Path) -> None:
        """Write texts and index into `folder`, whose owner makes it complete and sums it."""
        folder.mkdir(exist_ok=True)
        if self._file is not None:
            shutil.copyfile(self._file, folder / "table.arrow")
        else:
            save_dataset(self._dataset, folder / "table.arrow")
        self.write_index_into(folder)

    def write_index_into(self, folder: Path) -> None:
        """Write all but the texts into `folder`, which has them in `table.arrow` already."""
        np.save(folder / "hashes.npy", self._hashes, allow_pickle=False)
        np.save(folder / "order.npy", self._order, allow_pickle=False)
        description = {"documents": len(self), "fingerprint": self.fingerprint}
        (folder / "documents.json").write_text(json.dumps(description), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "DocumentTable":
        """Open a table written by `save`; texts are read when they are asked for.

        Raises InputError when a file is missing, or is not what was written (which takes a second per gigabyte).
        """
        folder = Path(folder)
        refuse_damaged(folder, "write the table again")
        for part in FILES:
            if not (folder / part).exists():
                raise InputError(f"{folder}: not a document table: {part} is missing")
        table = cls.__new__(cls)
        index = np.load(folder / "hashes.npy", mmap_mode="r"), np.load(folder / "order.npy", mmap_mode="r")
        table._set(Dataset.from_file(str(folder / "table.arrow")), folder / "table.arrow", index)
        description = json.loads((folder / "documents.json").read_text(encoding="utf-8"))
        table.fingerprint = description["fingerprint"]
        return table

    def extended(self, ids: Sequence[str], texts: Sequence[str]) -> "DocumentTable":
        """Return a table that has these documents too, after its own. Raises InputError when an id is taken."""
        more = DocumentTable.from_texts(ids, texts)
        return DocumentTable(concatenate_datasets([self._dataset, more._dataset]))

    def repeated(self) -> dict[str, list[int]]:
        """Find the ids that occur more than once, with their row numbers: none in any table that was opened."""
        twins = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        positions = np.sort(self._order[np.union1d(twins, twins + 1)])
        rows: dict[str, list[int]] = {}
        for name, position in zip(self.ids_at(positions), positions.tolist(), strict=True):
            rows.setdefault(name, []).append(position)
        return {name: numbers for name, numbers in rows.items() if len(numbers) > 1}

    @cached_property
    def _ids(self) -> pa.StringArray:
        ids = self._dataset.with_format("arrow")["id"][:]
        return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids


def surplus_rows(table: DocumentTable) -> list[int]:
    """Find the rows that repeat an earlier row, id and text alike; return their numbers.

    Raises:
        RepeatedId: an id occurs with different texts.
    """
    surplus: list[int] = []
    for name, rows in table.repeated().items():
        if len(set(table.texts_at(rows))) > 1:
            raise RepeatedId(name)
        surplus += rows[1:]
    return surplus


class RepeatedId(Exception):
    """A document id that stands for two texts; the reader knows in which file and lines."""


def _index(batches: Iterator[pa.RecordBatch]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted hashes of the ids [N] (uint64) and the positions they belong to [N] (int64)."""
    hashed = [_hashed(batch.column("id").to_pylist()) for batch in batches]
    hashes = np.concatenate(hashed) if hashed else np.empty(0, np.uint64)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], order


def _hashed(ids: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(xxh3_64_intdigest, map(str.encode, ids)), np.uint64, len(ids))


def _content(column: pa.StringArray) -> tuple[bytes, memoryview]:
    """Return the lengths and the bytes of a column of strings."""
    strings = column.cast(pa.large_binary())
    offsets = np.frombuffer(strings.buffers()[1], np.int64)[strings.offset : strings.offset + len(strings) + 1]
    return np.diff(offsets).tobytes(), memoryview(strings.buffers()[2] or b"")[offsets[0] : offsets[-1]]
