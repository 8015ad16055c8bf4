"""Regularisers of the input against overfitting (Appendix C.10): token dropout and a masked-LM loss."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.batching import run_in_blocks


MASKED_SHARE = 0.15  # of the tokens, as in BERT


def hide_tokens(
    input_ids: Tensor, attention_mask: Tensor, rate: float, tokenizer: PreTrainedTokenizerBase
) -> tuple[Tensor, Tensor]:
    """Replace a random share `rate` of the real, non-special tokens [N, L] by [MASK].

    Returns the new ids and which were hidden [N, L] bool. Draws from torch's global generator, which a checkpoint
    saves: a resumed run hides the same tokens.
    """
    special = torch.isin(input_ids, torch.tensor(tokenizer.all_special_ids, device=input_ids.device))
    hidden = (torch.rand(input_ids.shape, device=input_ids.device) < rate) & attention_mask.bool() & ~special
    return torch.where(hidden, tokenizer.mask_token_id, input_ids), hidden


def masked_lm_loss(
    encoder: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    chunk_size: int | None = None,
) -> Tensor:
    """Compute the mean cross-entropy of hidden tokens (Devlin et al., 2019), a scalar.

    The head is the encoder's own word embeddings, transposed: it has no parameters and leaves nothing to publish.

    Args:
        encoder: the transformer that is regularised.
        input_ids, attention_mask: [N, L].
        tokenizer: has the [MASK] and the special tokens.
        chunk_size: texts encoded at a time, as in `run_in_blocks`.
    """
    visible, hidden = hide_tokens(input_ids, attention_mask, MASKED_SHARE, tokenizer)
    words = encoder.get_input_embeddings().weight

    def text_losses(rows: Tensor, length: int) -> Tensor:
        """Add up the losses of each text, trimmed to `length` tokens."""
        picked = hidden[rows, :length]
        inputs = {"input_ids": visible[rows, :length], "attention_mask": attention_mask[rows, :length]}
        states = encoder(**inputs).last_hidden_state[picked]  # [T, H]
        losses = F.cross_entropy((states @ words.T).float(), input_ids[rows, :length][picked], reduction="none")
        return losses.new_zeros(picked.shape).masked_scatter(picked, losses).sum(dim=1)

    total = run_in_blocks(text_losses, attention_mask.sum(dim=1), chunk_size=chunk_size).sum()
    return total / hidden.sum().clamp(min=1)  # with nothing hidden 0, and a gradient of 0, where a mean would be NaN
