"""Token ids of texts, made in one place for training, embedding, scoring and cards."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
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

        `tokenizer.pad` gives the same in four times the time, which embedding on a GPU would wait for.
        """
        rows = [torch.tensor(tokens, dtype=torch.long) for tokens in token_ids]
        ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        if ids.shape[1] == 0:  # a tokenizer without special tokens makes nothing of an empty text
            ids = pad(ids, (0, 1), value=self.tokenizer.pad_token_id)
        lengths = torch.tensor(list(map(len, token_ids)))
        return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


def put_before(prompt: str, texts: Sequence[str]) -> list[str]:
    """Put a prompt before each text that does not begin with it."""
    return [text if text.startswith(prompt) else prompt + text for text in texts]
