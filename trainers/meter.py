"""Counts of a training between two logs: speed, padding, skipped queries, agreement with the teacher."""

import torch
from torch import Tensor, nn


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
