"""Texts → embeddings, the longest with the longest."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from m3se.modeling.batching import block_tokens, length_blocks
from m3se.modeling.dual_encoder import DualEncoder


TEXTS_PER_CHUNK = 16_384  # tokenised and sorted at a time: bounds memory, long enough for blocks of equal length


@torch.inference_mode()
def encode_texts(
    model: DualEncoder,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    side: str,
    dtype: torch.dtype = torch.float32,
    bar: tqdm | None = None,
) -> np.ndarray:
    """Embeddings [N, H] float32 of `texts`, cut to the length that the model keeps for `side` ("query" or "document").

    `dtype` is what matrices are multiplied in (float32, or bfloat16 by autocast). `bar` is advanced by one per text.
    Embeddings do not depend on the other texts, but for the rounding of `dtype`.
    """
    length = model.config.query_length if side == "query" else model.config.document_length
    embeddings = np.empty((len(texts), embedding_width(model)), dtype=np.float32)
    with torch.autocast(model.device.type, dtype=dtype, enabled=dtype != torch.float32):
        for start in range(0, len(texts), TEXTS_PER_CHUNK):
            chunk = list(texts[start : start + TEXTS_PER_CHUNK])
            ids = tokenizer(chunk, truncation=True, max_length=length, return_attention_mask=False)["input_ids"]
            for rows in length_blocks([len(text) for text in ids], block_tokens(model.device)):
                inputs = padded([ids[row] for row in rows], tokenizer.pad_token_id)
                block = model.embed(*(tensor.to(model.device) for tensor in inputs), side)
                embeddings[start + np.array(rows)] = block.float().cpu().numpy()
                if bar is not None:
                    bar.update(len(rows))
    return embeddings


def tokenized(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask [N, L] of texts cut to `length` tokens, padded on the right."""
    ids = tokenizer(texts, truncation=True, max_length=length, return_attention_mask=False)["input_ids"]
    return padded(ids, tokenizer.pad_token_id)


def embedding_width(model: DualEncoder) -> int:
    return model.config.projection_size or model.config.encoder_config.hidden_size


def padded(ids: list[list[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Token ids of N texts -> input_ids and attention_mask [N, L], padded on the right."""
    longest = max(1, *(len(text) for text in ids))
    input_ids = torch.full((len(ids), longest), pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, text in enumerate(ids):
        input_ids[row, : len(text)] = torch.tensor(text, dtype=torch.long)
        attention_mask[row, : len(text)] = 1
    return input_ids, attention_mask
