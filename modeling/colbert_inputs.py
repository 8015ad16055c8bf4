"""Additions of ColBERT to plain token ids: markers, [MASK] tokens after a query, words that do not count.

Token ids and masks [N, L] are right-padded, as a tokenizer makes them: `[CLS] text [SEP]`.
"""

import torch
from torch import Tensor


def insert_marker(input_ids: Tensor, attention_mask: Tensor, marker_id: int) -> tuple[Tensor, Tensor]:
    """Make `[CLS] [marker] text [SEP]` of `[CLS] text [SEP]`: ids and mask [N, L + 1]; an empty text stays empty."""
    markers = torch.full_like(input_ids[:, :1], marker_id)
    ids = torch.cat([input_ids[:, :1], markers, input_ids[:, 1:]], dim=1)
    return ids, torch.cat([attention_mask[:, :1], attention_mask], dim=1)


def truncate(input_ids: Tensor, attention_mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cut texts to `length` tokens; a longer one loses the tokens before its last ([SEP])."""
    if input_ids.shape[1] <= length:
        return input_ids, attention_mask
    lengths = attention_mask.sum(dim=1, keepdim=True)
    last = input_ids.gather(1, (lengths - 1).clamp(min=0))
    final = torch.where(lengths > length, last, input_ids[:, length - 1 : length])
    return torch.cat([input_ids[:, : length - 1], final], dim=1), attention_mask[:, :length]


def add_mask_tokens(
    input_ids: Tensor, attention_mask: Tensor, mask_token_id: int, *, fill_to: int | None = None, count: int = 0
) -> tuple[Tensor, Tensor]:
    """Put [MASK] after the last token of each text: up to `fill_to` tokens in all, or `count` of them.

    Args:
        input_ids, attention_mask: [N, L].
        mask_token_id: the token of [MASK].
        fill_to: tokens of every text afterwards; None: `count` more.
        count: new tokens of every text.

    Returns:
        Ids [N, M] and the new tokens [N, M] bool, where M is `fill_to`, or L + `count`.
    """
    lengths = attention_mask.sum(dim=1, keepdim=True)
    width = input_ids.shape[1] + count if fill_to is None else fill_to
    ends = lengths + count if fill_to is None else torch.full_like(lengths, fill_to)
    positions = torch.arange(width, device=input_ids.device)
    added = (positions >= lengths) & (positions < ends)
    ids = torch.nn.functional.pad(input_ids, (0, width - input_ids.shape[1]))
    return torch.where(added, mask_token_id, ids), added


def token_fields(tokenizer, markers: tuple[str, str] | None, skiplist: list[str]) -> dict:
    """Look up the config fields that are token ids in a tokenizer's vocabulary.

    Raises:
        ValueError: a marker is no token of it.
    """
    vocabulary = tokenizer.get_vocab()
    for marker in markers or ():
        if marker not in vocabulary:
            raise ValueError(f"the tokenizer has no token {marker!r}: choose markers of its vocabulary, or None")
    query_marker_id, document_marker_id = map(vocabulary.get, markers or (None, None))
    return {
        "query_marker_id": query_marker_id,
        "document_marker_id": document_marker_id,
        "mask_token_id": tokenizer.mask_token_id,
        "skiplist_ids": sorted(vocabulary[word] for word in skiplist if word in vocabulary),
    }
