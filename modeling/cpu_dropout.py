"""Dropout for training on a CPU, with masks that are cheap to draw.

torch draws a random number in double precision for every element, which takes a fifth of a BERT's training time on a
CPU. Here an element costs 16 random bits: it is dropped with a probability that is off by at most 2^-17, and what
stays is divided by the exact probability of staying, so that the expectation is unchanged.
"""

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask


ATTENTION = "cpu_dropout"  # its name among the attention implementations of transformers
DRAWS = 2**16


def use_cpu_dropout(model: PreTrainedModel) -> None:
    """Give a model this dropout, in its layers and its attention; weights and config files stay as they are."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, CpuDropout(child.p).train(child.training))
    model.set_attn_implementation(ATTENTION)


class CpuDropout(nn.Dropout):
    """`nn.Dropout` with masks of this module where it drops something."""

    def forward(self, input: Tensor) -> Tensor:
        return drop(input, self.p) if self.training else input


def drop(values: Tensor, rate: float) -> Tensor:
    """`torch.nn.functional.dropout` in training: values of any shape -> the same shape, each 0 with probability
    `rate`, else divided by 1 − `rate`."""
    kept = kept_draws(rate)
    if kept == DRAWS:
        return values
    if kept == 0:
        return values * 0.0
    return MaskedScale.apply(values, draw_mask(values.shape, kept), DRAWS / kept)


def kept_draws(rate: float) -> int:
    """Of 2^16 equally likely draws, how many keep an element."""
    return round((1 - rate) * DRAWS)


def draw_mask(shape: torch.Size, kept: int) -> Tensor:
    """Which elements stay, bool. Of torch's global generator, so that seeds and checkpoints cover it."""
    count = shape.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # 64 random bits each
    draws = words.view(torch.int16)[:count].view(shape)  # uniform in −2^15 … 2^15 − 1
    return draws < kept - DRAWS // 2


class MaskedScale(torch.autograd.Function):
    """values · mask · scale, with one byte per element kept for the backward pass."""

    @staticmethod
    def forward(ctx, values: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (values * mask).mul_(scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return MaskedScale.apply(gradient, mask, ctx.scale), None, None


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """An attention function of transformers: heads apart [B, h, L, d] -> [B, L, h, d], without the weights.

    torch's fused kernel for a CPU has no dropout. Keys and values have as many heads as queries.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = drop(scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype), dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)
