import torch
from torch import Tensor

from modeling.batching import block_tokens, length_blocks


class Meter:
    """What happened in training since the last log, summed over processes when it is read."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self.seconds = 0.0
        self.counts = dict.fromkeys(("skipped", "documents", "tokens", "padded", "agreeing", "compared"), 0)

    def add(self, scores: Tensor, teacher_scores: Tensor, mask: Tensor, usable: Tensor) -> None:
        """Count the queries of a micro-batch: scores and mask [B, K], which queries the loss can learn from [B]."""
        known = mask & ~teacher_scores.isnan()
        compared = known.sum(dim=1) > 1
        first, teacher_first = (
            torch.where(known, values, -torch.inf).argmax(dim=1) for values in (scores, teacher_scores)
        )
        self.counts["skipped"] += int((~usable).sum())
        self.counts["agreeing"] += int(((first == teacher_first) & compared).sum())
        self.counts["compared"] += int(compared.sum())

    def add_texts(self, lengths: Tensor, chunk_size: int | None) -> None:
        """Count what an encoder read: token counts [N] of texts that went through `run_in_blocks` together."""
        counted = lengths.tolist()
        blocks = length_blocks(counted, block_tokens(lengths.device), chunk_size)
        self.counts["tokens"] += sum(counted)
        self.counts["padded"] += sum(len(block) * counted[block[0]] for block in blocks)

    def read(self, device: torch.device) -> dict[str, float]:
        """The counts of all processes as rates and shares; starts anew."""
        totals = torch.tensor([*self.counts.values()], dtype=torch.float64, device=device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
        counts = dict(zip(self.counts, totals.tolist(), strict=True))
        report = {
            "documents_per_second": round(counts["documents"] / max(self.seconds, 1e-9), 1),
            "padding": round(1 - counts["tokens"] / max(counts["padded"], 1), 4),
            "skipped_queries": int(counts["skipped"]),
        }
        if counts["compared"]:
            report["teacher_top1_agreement"] = round(counts["agreeing"] / counts["compared"], 4)
        self.reset()
        return report
