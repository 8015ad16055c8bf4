"""Token ids of texts, made in one place for training, embedding, scoring and cards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from m3se.modeling.base import RankingModelConfig


@dataclass(frozen=True)
class TextInputs:
    """Tokeniser of the texts of a side, "query" or "document".

    The prompt of the side is put before a text that does not begin with it already. Prompt and text together are cut
    to the length of their side, special tokens included. Padding is on the right, whatever side the tokenizer pads on:
    our models read the first token and insert markers after it.
    """

    tokenizer: PreTrainedTokenizerBase
    query_length: int
    document_length: int
    query_prompt: str = ""
    document_prompt: str = ""

    @classmethod
    def for_model(cls, tokenizer: PreTrainedTokenizerBase, config: RankingModelConfig) -> "TextInputs":
        """Make the inputs of a model of ours, with the lengths and prompts of its config."""
        lengths = config.query_length, config.document_length
        return cls(tokenizer, *lengths, config.query_prompt, config.document_prompt)

    def __call__(self, texts: Sequence[str], side: str) -> tuple[Tensor, Tensor]:
        """Tokenise N texts -> token ids and attention mask [N, L], padded to the longest."""
        return self.pad(self.token_ids(texts, side))

    def token_ids(self, texts: Sequence[str], side: str) -> list[list[int]]:
        """Tokenise N texts -> N lists of token ids, not padded."""
        is_query = side == "query"
        length = self.query_length if is_query else self.document_length
        prompted = put_before(self.query_prompt if is_query else self.document_prompt, texts)
        encoded = self.tokenizer(prompted, truncation=True, max_length=length, return_attention_mask=False)
        return encoded["input_ids"]

    def pad(self, token_ids: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Lay N lists of token ids out as ids and attention mask [N, L]; L is at least 1.

        `tokenizer.pad` gives the same in ten times the time, which embedding on a GPU would wait for.
        """
        lengths = np.array([len(tokens) for tokens in token_ids], dtype=np.int64)
        longest = max(lengths.max(initial=0), 1)  # a tokenizer without special tokens makes nothing of an empty text
        ids = np.full((len(token_ids), longest), self.tokenizer.pad_token_id, dtype=np.int64)
        for row, tokens in zip(ids, token_ids, strict=True):
            row[: len(tokens)] = tokens
        mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        return torch.from_numpy(ids), torch.from_numpy(mask)


def put_before(prompt: str, texts: Sequence[str]) -> list[str]:
    """Put a prompt before each text that does not begin with it."""
    return [text if text.startswith(prompt) else prompt + text for text in texts]
