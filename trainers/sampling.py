"""Lists that are longer than a step should see: other documents of them in every epoch, as training on triples has."""

import torch
from datasets import Dataset
from transformers import TrainerCallback

from m3se.trainers.data import sample_row


class SampledRows(torch.utils.data.Dataset):
    """Training rows with at most `size` documents: positives and drawn negatives (see `trainers.data.sample_row`)."""

    def __init__(self, rows: Dataset, size: int, seed: int):
        self.rows, self.size, self.seed, self.epoch = rows, size, seed, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict:
        return sample_row(self.rows[number], self.size, self.seed, self.epoch)


class NewEpoch(TrainerCallback):
    """Tells sampled rows which epoch begins, before the loader copies them into its worker processes."""

    def __init__(self, rows: SampledRows):
        self.rows = rows

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.rows.epoch = int(state.epoch or 0)  # a run that is resumed inside an epoch begins with a fraction
