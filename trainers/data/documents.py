"""The document table: id → text for collections that do not fit in memory.

Texts stay in a memory-mapped Arrow file. The index is two numpy arrays, the sorted 64-bit hashes of the ids and the
positions they belong to: 16 bytes per document, where a dict of 8.8 million ids takes more than a gigabyte. Hashes may
collide, so an id is compared with the stored one on every access.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Value
from xxhash import xxh3_64_intdigest

from trainers.data.arrow import complete_folder, dataset_of, save_dataset
from trainers.errors import InputError


DOCUMENT_FEATURES = Features({"id": Value("string"), "text": Value("string")})


class DocumentTable:
    """Texts by id, over a Dataset with the string columns `id` and `text`.

    Raises InputError when an id occurs twice.
    """

    def __init__(self, dataset: Dataset):
        self._dataset = dataset.with_format(None)
        self._hashes, self._order = _index(self._dataset)
        self._refuse_duplicates()

    @classmethod
    def from_texts(cls, ids: Sequence[str], texts: Sequence[str]) -> "DocumentTable":
        """A small table held in memory."""
        rows = ({"id": document, "text": text} for document, text in zip(ids, texts, strict=True))
        return cls(dataset_of(rows, DOCUMENT_FEATURES))

    def __len__(self) -> int:
        return len(self._dataset)

    def __contains__(self, document: str) -> bool:
        return self._find([document])[0] >= 0

    @property
    def ids(self) -> Sequence[str]:
        """All ids in the order of the table, read from disk as they are needed."""
        return self._dataset["id"]

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers [len(ids)] (int64) of `ids`, which may repeat. Raises InputError naming an unknown id."""
        positions = self._find(ids)
        if (positions < 0).any():
            unknown = [ids[i] for i in np.flatnonzero(positions < 0)]
            raise InputError(f"unknown document id {unknown[0]!r} ({len(unknown)} of {len(ids)} ids are unknown)")
        return positions

    def texts(self, ids: Sequence[str]) -> list[str]:
        """The texts of `ids`, which may repeat. Raises InputError naming an unknown id."""
        return self.texts_at(self.positions(ids))

    def texts_at(self, positions: Sequence[int]) -> list[str]:
        """The texts of rows by number, as `positions` gives them."""
        return self._dataset[positions]["text"]

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that the table does not have, in their order."""
        return [ids[i] for i in np.flatnonzero(self._find(ids) < 0)]

    def batches(self, size: int = 1_000) -> Iterator[tuple[list[str], list[str]]]:
        """All ids and texts in the order of the table, `size` at a time."""
        for batch in self._dataset.iter(size):
            yield batch["id"], batch["text"]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all ids and texts in their order: equal in every process and on every machine."""
        digest = blake2b(digest_size=16)
        for ids, texts in self.batches():
            lengths = (f"{len(id_)},{len(text)};{id_}{text}" for id_, text in zip(ids, texts, strict=True))
            digest.update("".join(lengths).encode())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the table and its index to `folder`, which appears only when complete."""
        with complete_folder(folder) as new:
            save_dataset(self._dataset, new / "table.arrow")
            np.save(new / "hashes.npy", self._hashes, allow_pickle=False)
            np.save(new / "order.npy", self._order, allow_pickle=False)
            description = {"documents": len(self), "fingerprint": self.fingerprint}
            (new / "documents.json").write_text(json.dumps(description), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "DocumentTable":
        """Open a table written by `save`; nothing is read until it is asked for. Raises InputError."""
        folder = Path(folder)
        for part in ("documents.json", "hashes.npy", "order.npy", "table.arrow"):
            if not (folder / part).exists():
                raise InputError(f"{folder}: not a document table: {part} is missing")
        table = cls.__new__(cls)
        table._dataset = Dataset.from_file(str(folder / "table.arrow"))
        table._hashes = np.load(folder / "hashes.npy", mmap_mode="r", allow_pickle=False)
        table._order = np.load(folder / "order.npy", mmap_mode="r", allow_pickle=False)
        description = json.loads((folder / "documents.json").read_text(encoding="utf-8"))
        table.fingerprint = description["fingerprint"]
        return table

    def _find(self, ids: Sequence[str]) -> np.ndarray:
        """Positions of `ids`, −1 where unknown."""
        found = np.full(len(ids), -1, dtype=np.int64)
        if len(self) == 0 or len(ids) == 0:
            return found
        hashes = _hashed(ids)
        slots = np.searchsorted(self._hashes, hashes)
        open_ = np.arange(len(ids))
        while len(open_):  # a second round only for ids whose hash another id shares
            inside = slots[open_] < len(self)
            open_ = open_[inside]
            open_ = open_[self._hashes[slots[open_]] == hashes[open_]]
            if len(open_) == 0:
                break
            candidates = self._order[slots[open_]]
            stored = self._dataset[candidates]["id"]
            same = np.fromiter((ids[i] == id_ for i, id_ in zip(open_, stored, strict=True)), bool, len(open_))
            found[open_[same]] = candidates[same]
            open_ = open_[~same]
            slots[open_] += 1
        return found

    def _refuse_duplicates(self) -> None:
        twins = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        shared = self._dataset[self._order[np.union1d(twins, twins + 1)]]["id"] if len(twins) else []
        repeated = [id_ for id_, count in Counter(shared).items() if count > 1]
        if repeated:
            raise InputError(f"document id {repeated[0]!r} occurs more than once ({len(repeated)} ids do)")


def _index(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Sorted hashes of the ids [N] (uint64) and the positions they belong to [N] (int64)."""
    hashes = np.empty(len(dataset), dtype=np.uint64)
    start = 0
    for batch in dataset.select_columns("id").iter(10_000):
        ids = batch["id"]
        hashes[start : start + len(ids)] = _hashed(ids)
        start += len(ids)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], order


def _hashed(ids: Sequence[str]) -> np.ndarray:
    return np.fromiter((xxh3_64_intdigest(id_.encode()) for id_ in ids), np.uint64, len(ids))
