import torch
from torch import Tensor, nn


class Meter:
    """What happened in training since the last log, summed over processes when it is read."""

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.seconds = 0.0
        names = ("documents", "skipped", "agreeing", "compared", "tokens", "places")
        # on the device: counting there does not make the processor wait
        self.counts = {name: torch.zeros((), dtype=torch.int64, device=self.device) for name in names}

    def watch(self, encoder: nn.Module) -> None:
        """Count the tokens that an encoder reads in training, and the places that they and their padding take."""

        def count(module: nn.Module, args: tuple, inputs: dict) -> None:
            if module.training:
                self.counts["tokens"] += inputs["attention_mask"].sum()
                self.counts["places"] += inputs["attention_mask"].numel()

        encoder.register_forward_pre_hook(count, with_kwargs=True)

    def add(self, scores: Tensor, teacher_scores: Tensor, mask: Tensor, usable: Tensor, documents: int) -> None:
        """Count a micro-batch: scores and mask [B, K], which queries the loss can learn from [B], texts encoded."""
        known = mask & ~teacher_scores.isnan()
        compared = known.sum(dim=1) > 1
        first, teacher_first = (
            torch.where(known, values, -torch.inf).argmax(dim=1) for values in (scores, teacher_scores)
        )
        self.counts["documents"] += documents
        self.counts["skipped"] += (~usable).sum()
        self.counts["agreeing"] += ((first == teacher_first) & compared).sum()
        self.counts["compared"] += compared.sum()

    def read(self) -> dict[str, float]:
        """The counts of all processes as rates and shares; starts anew.

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
