"""Added negatives (Appendix C.12): more columns of `document_index`, with label 0 and no teacher score.

A document that a query already has, a known positive among them, is never added as its negative.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad


def draw_documents(collection_size: int, count: int, seed: list[int]) -> list[int]:
    """Draw `count` distinct table positions, uniform over the collection; `seed` is (seed, step, draw of the step).

    The draw depends on nothing else: all processes, and a resumed run, draw the same.
    """
    return np.random.default_rng(seed).choice(collection_size, size=count, replace=False).tolist()


def append_documents(batch: dict[str, Tensor], added: dict[str, Tensor], pad_token_id: int) -> dict[str, Tensor]:
    """Put further documents behind the N of a batch: ids and mask [M, D'], or embeddings [M, H], and keys [M].

    Tokens are padded to the wider of both.
    """
    joined = {}
    for name in added.keys() & {"document_keys", "document_embeddings"}:
        joined[name] = torch.cat([batch[name], added[name]])
    if "document_embeddings" in added:
        return batch | joined
    width = max(batch["document_input_ids"].shape[1], added["document_input_ids"].shape[1])
    for name, fill in (("document_input_ids", pad_token_id), ("document_attention_mask", 0)):
        parts = [pad(part[name], (0, width - part[name].shape[1]), value=fill) for part in (batch, added)]
        joined[name] = torch.cat(parts)
    return batch | joined


def negative_columns(document_keys: Tensor, own_keys: Tensor, eligible: Tensor) -> Tensor:
    """Return every eligible document that is not a query's own, as further columns of its `document_index`.

    document_keys [N], own_keys [B, K] (any negative number: none), eligible [N] bool -> [B, N] index, -1 for none.
    Of eligible documents with the same key the first is used.
    """
    positions = torch.arange(len(document_keys), device=document_keys.device)
    distinct, groups = document_keys.unique(return_inverse=True)
    candidates = torch.where(eligible, positions, len(positions))
    first = torch.full_like(distinct, len(positions)).scatter_reduce(0, groups, candidates, "amin")
    own = (own_keys[:, :, None] == document_keys).any(dim=1)  # [B, N]
    return torch.where(~own & (first[groups] == positions), positions, -1)


def add_columns(targets: dict[str, Tensor], columns: Tensor) -> dict[str, Tensor]:
    """Append columns [B, E] to `document_index`, `mask`, `labels` and `teacher_scores` [B, K]; unused ones go."""
    columns = columns[:, (columns >= 0).any(dim=0)]
    appended = {
        "document_index": columns,
        "mask": columns >= 0,
        "labels": torch.zeros_like(columns, dtype=torch.float32),
        "teacher_scores": torch.full_like(columns, torch.nan, dtype=torch.float32),
    }
    for name, values in appended.items():
        appended[name] = torch.cat([targets[name], values], dim=1)
    return targets | appended
