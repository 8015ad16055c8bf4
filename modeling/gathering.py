"""Rows of all processes in one tensor, with gradient."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import pad


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate every process's rows [n_r, ...] in rank order -> [sum n_r, ...].

    Processes may hold different numbers of rows. Gradients flow back to the process that made a row, summed over the
    processes that used it; DDP's mean over processes then gives the gradient of the mean loss. Without a process group
    the rows come back as they are.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    largest = int(max(counts))
    padded = torch.cat([rows, rows.new_zeros(largest - len(rows), *rows.shape[1:])])
    if rows.requires_grad:
        parts = all_gather(padded)
    else:
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def gather_tokens(embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Gather token embeddings [n_r, T_r, H] and masks of every process, padded to the longest -> [sum n_r, T, H]."""
    width = int(gather_rows(torch.tensor([mask.shape[1]], device=mask.device)).max())
    missing = width - mask.shape[1]
    return gather_rows(pad(embeddings, (0, 0, 0, missing))), gather_rows(pad(mask, (0, missing)))
