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
        """Drop elements in training; return the input as it is in evaluation."""
        return drop(input, self.p) if self.training else input


def drop(values: Tensor, rate: float) -> Tensor:
    """Set each value to 0 with probability `rate` and divide the others by 1 − `rate`, as `nn.functional.dropout`."""
    keeping = keeping_draws(rate)
    if keeping == DRAWS:
        return values
    if keeping == 0:
        return values * 0.0
    return MaskedScale.apply(values, draw_mask(values.shape, keeping), DRAWS / keeping)


def keeping_draws(rate: float) -> int:
    """Return the number of the 2^16 possible draws for which an element is kept."""
    return round((1 - rate) * DRAWS)


def draw_mask(shape: torch.Size, keeping: int) -> Tensor:
    """Draw a mask (1 = keep) as int8: multiplying by int8 takes half the time of bool.

    Draws come from torch's global generator, so that seeds and checkpoints cover them.
    """
    count = shape.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # 64 random bits each
    draws = words.view(torch.int16)[:count].view(shape)  # uniform in −2^15 … 2^15 − 1
    return (draws < keeping - DRAWS // 2).view(torch.int8)


class MaskedScale(torch.autograd.Function):
    """Product values · mask · scale that keeps one byte per element for the backward pass."""

    @staticmethod
    def forward(ctx, values: Tensor, mask: Tensor, scale: float) -> Tensor:
        """Multiply; keep the mask."""
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (values * mask).mul_(scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Multiply the gradient in the same way."""
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
    """Attend as an attention function of transformers, with a dropout that torch's fused kernel for a CPU lacks.

    Args:
        module: the attention layer, which is not used.
        query, key, value: [B, h, L, d], all of as many heads.
        attention_mask: added to the scores [B, 1, L, L]; None: nothing is masked.
        scaling: of the scores; None: by the root of d.
        dropout: rate at which attention weights are dropped.

    Returns:
        Outputs [B, L, h, d], and None instead of the attention weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    keeping = keeping_draws(dropout)
    if keeping == DRAWS:
        output = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
        return output.transpose(1, 2).contiguous(), None
    query, key, value = (states.transpose(0, 1).contiguous() for states in (query * scaling, key, value))
    mask = draw_mask(torch.Size([*query.shape[:3], key.shape[2]]), keeping)
    output = DroppedAttention.apply(query, key, value, attention_mask, mask, DRAWS / keeping if keeping else 0.0)
    return output.permute(1, 2, 0, 3).contiguous(), None


class DroppedAttention(torch.autograd.Function):
    """softmax(query · keyᵀ + attention_mask) · mask · scale · value, heads first: [h, B, L, d] -> [h, B, L, d].

    The attention weights would be most of the memory of a layer's backward pass. Only the mask is kept, a byte each;
    the weights are computed again (Dao et al. 2022).
    """

    @staticmethod
    def forward(ctx, query, key, value, attention_mask, mask, scale: float) -> Tensor:
        """Attend, a few heads at a time, and keep the inputs and the mask.

        Args:
            ctx: what the backward pass gets.
            query, key, value: [h, B, L, d], the query already scaled.
            attention_mask: added to the scores [B, 1, L, L], or None.
            mask: [h, B, L, L] int8, 1 where a weight stays.
            scale: of the weights that stay.
        """
        ctx.save_for_backward(query, key, value, attention_mask, mask)
        ctx.scale = scale
        outputs = []
        with torch.autocast("cpu", enabled=False):
            for q, k, v, m in few_heads(mask, query, key, value, mask):
                weights = attention_weights(q, k, attention_mask).mul_(m)
                outputs.append(torch.matmul(weights.to(v.dtype), v))
        return torch.cat(outputs).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the weights again, then the gradients of query, key and value."""
        query, key, value, attention_mask, mask = ctx.saved_tensors
        queries, keys, values = [], [], []
        for q, k, v, m, outer in few_heads(mask, query, key, value, mask, gradient * ctx.scale):
            weights = attention_weights(q, k, attention_mask)
            scores = torch.matmul(outer, v.mT).float().mul_(m).mul_(weights)  # gradient of the softmax's input
            scores = scores.addcmul_(weights, scores.sum(-1, keepdim=True), value=-1).to(q.dtype)
            queries.append(torch.matmul(scores, k))
            keys.append(torch.matmul(scores.mT, q))
            values.append(torch.matmul(weights.mul_(m).to(v.dtype).mT, outer))
        return torch.cat(queries), torch.cat(keys), torch.cat(values), None, None, None


def few_heads(mask: Tensor, *states: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors [h, B, ...] so that the attention weights of a part, as many as in `mask`, fit in a cache."""
    heads = max(1, CACHED_WEIGHTS // mask[0].numel())
    return zip(*(tensor.split(heads) for tensor in states), strict=True)


def attention_weights(query: Tensor, key: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Compute attention weights before anything is dropped: [h, B, L, d] -> [h, B, L, L], float32."""
    scores = torch.matmul(query, key.mT)
    if attention_mask is not None:
        scores += attention_mask.transpose(0, 1)
    return scores.softmax(dim=-1, dtype=torch.float32)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)
