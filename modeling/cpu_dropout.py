"""Dropout for training on a CPU, with masks that are cheap to draw.

torch draws a random number in double precision for every element, which takes a fifth of a BERT's training time on a
CPU. Here an element costs 16 random bits: it is dropped with a probability that is off by at most 2^-17, and what
stays is divided by the exact probability of staying, so that the expectation is unchanged.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask


ATTENTION = "cpu_dropout"  # its name among the attention implementations of transformers
DRAWS = 2**16
CACHED_WEIGHTS = 2**19  # of 4 bytes


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
    """Which elements stay, as 1 and 0 in int8, of which a product takes half as long as of bool.

    Of torch's global generator, so that seeds and checkpoints cover it.
    """
    count = shape.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # 64 random bits each
    draws = words.view(torch.int16)[:count].view(shape)  # uniform in −2^15 … 2^15 − 1
    return (draws < kept - DRAWS // 2).view(torch.int8)


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
    kept = kept_draws(dropout)
    if kept == DRAWS:
        output = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
        return output.transpose(1, 2).contiguous(), None
    query, key, value = (states.transpose(0, 1).contiguous() for states in (query * scaling, key, value))
    mask = draw_mask(torch.Size([*query.shape[:3], key.shape[2]]), kept)
    output = DroppedAttention.apply(query, key, value, attention_mask, mask, DRAWS / kept if kept else 0.0)
    return output.permute(1, 2, 0, 3).contiguous(), None


class DroppedAttention(torch.autograd.Function):
    """softmax(query · keyᵀ + attention_mask) · mask · scale · value, heads first: [h, B, L, d] -> [h, B, L, d].

    Of the attention weights, which would be most of what a layer keeps for the backward pass, only the mask is kept,
    a byte each; the weights are computed again (Dao et al. 2022).
    """

    @staticmethod
    def forward(ctx, query, key, value, attention_mask, mask, scale: float) -> Tensor:
        ctx.save_for_backward(query, key, value, attention_mask, mask)
        ctx.scale = scale
        outputs = []
        with torch.autocast("cpu", enabled=False):
            for q, k, v, kept in few_heads(mask, query, key, value, mask):
                weights = attention_weights(q, k, attention_mask).mul_(kept)
                outputs.append(torch.matmul(weights.to(v.dtype), v))
        return torch.cat(outputs).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attention_mask, mask = ctx.saved_tensors
        queries, keys, values = [], [], []
        for q, k, v, kept, outer in few_heads(mask, query, key, value, mask, gradient * ctx.scale):
            weights = attention_weights(q, k, attention_mask)
            scores = torch.matmul(outer, v.mT).float().mul_(kept).mul_(weights)  # the gradient of what softmax is of
            scores = scores.addcmul_(weights, scores.sum(-1, keepdim=True), value=-1).to(q.dtype)
            queries.append(torch.matmul(scores, k))
            keys.append(torch.matmul(scores.mT, q))
            values.append(torch.matmul(weights.mul_(kept).to(v.dtype).mT, outer))
        return torch.cat(queries), torch.cat(keys), torch.cat(values), None, None, None


def few_heads(mask: Tensor, *states: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors [h, B, ...] cut so that the attention weights of a part, as many as in `mask`, fit in a cache."""
    heads = max(1, CACHED_WEIGHTS // mask[0].numel())
    return zip(*(tensor.split(heads) for tensor in states), strict=True)


def attention_weights(query: Tensor, key: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Before anything is dropped: [h, B, L, d] -> [h, B, L, L], float32."""
    scores = torch.matmul(query, key.mT)
    if attention_mask is not None:
        scores += attention_mask.transpose(0, 1)
    return scores.softmax(dim=-1, dtype=torch.float32)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)
