"""Counts of a training: lists that a loss cannot use, and between two logs speed, padding, agreement and the like."""

from collections import Counter

import torch
from datasets import Dataset
from torch import Tensor, nn

from m3se.trainers.collators import ragged
from m3se.trainers.losses import usable_queries


def count_unusable(
    rows: Dataset, loss: str, one_hot_weight: float = 0.0, added_negatives: bool = False
) -> Counter[str]:
    """Count the lists `without_positive`, and those `unusable`, which the loss learns nothing from.

    Args:
        rows: training lists.
        loss: name of the loss.
        one_hot_weight: share of the one-hot loss in a mixture with it.
        added_negatives: every list will get negatives from the batch or from the collection.
    """
    counts: Counter[str] = Counter()
    is_scored = "teacher_scores" in rows.column_names
    columns = rows.select_columns(["labels", *["teacher_scores"] * is_scored])
    for batch in columns.iter(1_000):
        labels = ragged(batch["labels"], torch.nan, torch.float32)
        mask = ~labels.isnan()
        labels = labels.nan_to_num(0.0)
        teacher_scores = torch.full_like(labels, torch.nan)
        if is_scored:
            teacher_scores = ragged(batch["teacher_scores"], torch.nan, torch.float32)
        if added_negatives:
            pad = torch.nn.functional.pad
            labels, teacher_scores = pad(labels, (0, 1)), pad(teacher_scores, (0, 1), value=torch.nan)
            mask = pad(mask, (0, 1), value=True)
        usable = usable_queries(loss, teacher_scores, labels, mask, one_hot_weight)
        counts["without_positive"] += int((~(labels > 0).any(dim=1)).sum())
        counts["unusable"] += int((~usable).sum())
    return counts


class Meter:
    """Counts of the training since the last log, summed over processes when they are read."""

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Start all counts and the clock at 0."""
        self.seconds = 0.0
        names = ("documents", "skipped", "agreeing", "compared", "tokens", "places")
        # on the device: counting there does not make the processor wait
        self.counts = {name: torch.zeros((), dtype=torch.int64, device=self.device) for name in names}

    def watch(self, encoder: nn.Module) -> None:
        """Count the tokens that an encoder reads in training, and the places that they and their padding take."""

        def count(module: nn.Module, args: tuple, inputs: dict) -> None:
            """Add the tokens and places of a forward call in training."""
            if module.training:
                self.counts["tokens"] += inputs["attention_mask"].sum()
                self.counts["places"] += inputs["attention_mask"].numel()

        encoder.register_forward_pre_hook(count, with_kwargs=True)

    def add(self, scores: Tensor, teacher_scores: Tensor, mask: Tensor, usable: Tensor, documents: int) -> None:
        """Count a micro-batch.

        Args:
            scores: of the model [B, K].
            teacher_scores: of the teacher [B, K], NaN where it gave none.
            mask: real documents [B, K].
            usable: queries that the loss can learn from [B].
            documents: number of texts that were encoded.
        """
        scored = mask & ~teacher_scores.isnan()
        compared = scored.sum(dim=1) > 1
        first = torch.where(scored, scores, -torch.inf).argmax(dim=1)
        teacher_first = torch.where(scored, teacher_scores, -torch.inf).argmax(dim=1)
        self.counts["documents"] += documents
        self.counts["skipped"] += (~usable).sum()
        self.counts["agreeing"] += ((first == teacher_first) & compared).sum()
        self.counts["compared"] += compared.sum()

    def read(self) -> dict[str, float]:
        """Return the counts of all processes as rates and shares, and start anew.

        `documents_per_second` (of all processes together), `padding` (share of the places that an encoder computed
        in vain), `skipped_queries` (without anything to learn from), `teacher_top1_agreement` (share of queries whose
        best document is the teacher's; absent without teacher scores).
        """
        totals = torch.stack([*self.counts.values()])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
        counts = dict(zip(self.counts, totals.tolist(), strict=True))
        report = {
            "documents_per_second": round(counts["documents"] / max(self.seconds, 1e-9), 1),
            "padding": round(1 - counts["tokens"] / max(counts["places"], 1), 4),
            "skipped_queries": int(counts["skipped"]),
        }
        if counts["compared"]:
            report["teacher_top1_agreement"] = round(counts["agreeing"] / counts["compared"], 4)
        self.reset()
        return report
