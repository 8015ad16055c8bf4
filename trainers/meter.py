import torch
from torch import Tensor

from modeling.batching import BLOCK_TOKENS, length_blocks
from trainers.losses import usable_queries


class Meter:
    """What happened in training since the last log, summed over processes when it is read."""

    def __init__(self, loss: str):
        self.loss = loss
        self.reset()

    def reset(self) -> None:
        self.seconds = 0.0
        self.counts = dict.fromkeys(("queries", "skipped", "documents", "tokens", "padded", "agreeing", "compared"), 0)

    def add(
        self, scores: Tensor, document_attention_mask: Tensor, mask: Tensor, labels: Tensor, teacher_scores: Tensor
    ) -> None:
        """Count one micro-batch: scores and targets [B, K], attention mask of its documents [N, D]."""
        lengths = document_attention_mask.sum(dim=1).tolist()
        blocks = length_blocks(lengths, BLOCK_TOKENS[scores.device.type])
        known = mask & ~teacher_scores.isnan()
        compared = known.sum(dim=1) > 1
        first, teacher_first = (
            torch.where(known, values, -torch.inf).argmax(dim=1) for values in (scores, teacher_scores)
        )
        usable = usable_queries(self.loss, teacher_scores, labels, mask)
        for name, value in {
            "queries": len(scores),
            "skipped": int((~usable).sum()),
            "documents": len(lengths),
            "tokens": sum(lengths),
            "padded": sum(len(block) * lengths[block[0]] for block in blocks),
            "agreeing": int(((first == teacher_first) & compared).sum()),
            "compared": int(compared.sum()),
        }.items():
            self.counts[name] += value

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
