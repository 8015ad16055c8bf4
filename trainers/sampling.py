"""Lists that are longer than a step should see: other documents of them in every epoch, as training on triples has."""

import numpy as np
import torch
from datasets import Dataset
from torch.utils import data

from m3se.trainers.data.candidates import query_generator
from m3se.trainers.errors import InputError


Rows = Dataset | data.Dataset


def sample_row(row: dict, size: int, seed: int, epoch: int) -> dict:
    """Sample at most `size` documents of a row: its positives, at most size − 1, and negatives without replacement.

    The draw is a pure function of row, seed and epoch. A row that is short enough comes back as it is.
    Raises InputError when `size` is below 2.
    """
    if size < 2:
        raise InputError(f"documents per query: expected at least 2, got {size}")
    if len(row["document_ids"]) <= size:
        return row
    labels = np.asarray(row["labels"])
    generator = query_generator(f"{epoch} {row['query_id']}", seed)
    positives = generator.permutation(np.flatnonzero(labels > 0))[: size - 1]
    negatives = generator.permutation(np.flatnonzero(labels <= 0))[: size - len(positives)]
    places = [*np.sort(positives), *np.sort(negatives)]
    sampled = dict(row)
    for name in row:
        if name in ("document_ids", "labels") or name.startswith("teacher_scores"):
            sampled[name] = [row[name][place] for place in places]
    dropped = [row["document_ids"][place] for place in np.flatnonzero(labels > 0) if place not in places]
    return sampled | {"positive_ids": [*row.get("positive_ids", ()), *dropped]}


def sample_rows(rows: Rows | None, size: int, seed: int) -> Rows:
    """Draw `size` rows, the same for the same seed; none of a stream, whose rows have no numbers."""
    if not hasattr(rows, "__len__"):
        return Dataset.from_dict({})
    numbers = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:size].tolist()
    return rows.select(numbers) if isinstance(rows, Dataset) else data.Subset(rows, numbers)


class SampledRows(data.Dataset):
    """Training rows with at most `size` documents: positives and drawn negatives (see `sample_row`)."""

    def __init__(self, rows: Rows, size: int, seed: int):
        self.rows, self.size, self.seed, self.epoch = rows, size, seed, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict:
        return sample_row(self.rows[number], self.size, self.seed, self.epoch)
