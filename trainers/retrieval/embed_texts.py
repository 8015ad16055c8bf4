"""Texts → embeddings, the longest with the longest."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from m3se.modeling.batching import block_tokens, length_blocks, map_blocks
from m3se.modeling.dual_encoder import DualEncoder
from m3se.trainers.models.text_inputs import TextInputs


TEXTS_PER_CHUNK = 16_384  # tokenised and sorted at a time: bounds memory, long enough for blocks of equal length


class Tower(torch.nn.Module):
    """One side of a dual encoder, pooling and all that follows included, called as transformers' models are."""

    def __init__(self, model: DualEncoder, side: str):
        super().__init__()
        self.model, self.side, self.config = model, side, model.config.encoder_config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Embed ids and mask [N, L]: embeddings [N, H]."""
        return {"embeddings": self.model.embed(input_ids, attention_mask, self.side)}


@torch.inference_mode()
def encode_texts(
    model: DualEncoder,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    side: str,
    dtype: torch.dtype = torch.float32,
    bar: tqdm | None = None,
    tower: torch.nn.Module | None = None,
) -> np.ndarray:
    """Embed texts, after the prompt of their side and cut to its length: [N, H] float32.

    Embeddings do not depend on the other texts, but for the rounding of `dtype`.

    Args:
        model, tokenizer: the dual encoder in evaluation mode, and its tokenizer.
        texts: N texts of any length.
        side: "query" or "document".
        dtype: number format that matrices are multiplied in: float32, or bfloat16 by autocast.
        bar: is advanced by one per text.
        tower: the side, where another library computes it (default: `Tower(model, side)`).
    """
    config = model.config
    inputs = TextInputs.for_model(tokenizer, config)
    tower = Tower(model, side) if tower is None else tower
    width, device = config.projection_size or config.encoder_config.hidden_size, model.device
    embeddings = np.empty((len(texts), width), dtype=np.float32)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        for start in range(0, len(texts), TEXTS_PER_CHUNK):
            token_ids = inputs.token_ids(texts[start : start + TEXTS_PER_CHUNK], side)

            def embed(rows: list[int], token_ids=token_ids) -> np.ndarray:
                """Embed the texts of a block."""
                ids, mask = inputs.pad([token_ids[row] for row in rows])
                outputs = tower(input_ids=ids.to(device), attention_mask=mask.to(device))
                return outputs["embeddings"].float().cpu().numpy()

            blocks = length_blocks(list(map(len, token_ids)), block_tokens(device))
            for rows, block in zip(blocks, map_blocks(embed, blocks, device), strict=True):
                embeddings[start + np.array(rows)] = block
                if bar is not None:
                    bar.update(len(rows))
    return embeddings
