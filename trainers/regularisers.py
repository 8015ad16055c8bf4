"""What the paper tries against overfitting at the input (Appendix C.10): token dropout and a masked-LM loss."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
    encoder: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, tokenizer: PreTrainedTokenizerBase
) -> Tensor:
    """Cross-entropy of hidden tokens (Devlin et al., 2019), mean over them; token ids and mask [N, L] -> scalar.

    The head is the encoder's own word embeddings, transposed: it has no parameters and leaves nothing to publish.
    """
    visible, hidden = hide_tokens(input_ids, attention_mask, MASKED_SHARE, tokenizer)
    states = encoder(input_ids=visible, attention_mask=attention_mask).last_hidden_state[hidden]  # [T, H]
    logits = states @ encoder.get_input_embeddings().weight.T
    # A sum over nothing is 0, with a gradient, where a mean would be NaN.
    return F.cross_entropy(logits.float(), input_ids[hidden], reduction="sum") / max(len(states), 1)
