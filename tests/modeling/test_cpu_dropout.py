import json

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig

from m3se import DualEncoder, DualEncoderConfig
from m3se.modeling.cpu_dropout import (
    DRAWS,
    CpuDropout,
    DroppedAttention,
    MaskedScale,
    attention,
    draw_mask,
    drop,
    keeping_draws,
    use_cpu_dropout,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate_and_the_mean_stays(rate, dtype):
    torch.manual_seed(0)
    dropped = drop(torch.ones(1001, 333, dtype=dtype), rate)
    kept = round((1 - rate) * DRAWS)
    assert dropped.dtype == dtype
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(DRAWS / kept, dtype=dtype).item()}
    deviation = (rate * (1 - rate) / dropped.numel()) ** 0.5
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=5 * deviation)


def test_elements_are_dropped_independently_of_their_place():
    torch.manual_seed(0)
    mask = draw_mask(torch.Size([4000, 8]), DRAWS // 2).float()  # four neighbours share 64 random bits
    correlations = torch.corrcoef(mask.T) - torch.eye(8)
    assert correlations.abs().max() < 5 / 4000**0.5
    assert (mask.mean(0) - 0.5).abs().max() < 5 * 0.5 / 4000**0.5


def test_a_seed_gives_the_same_masks_and_every_call_others():
    values = torch.ones(7, 9)  # 63 elements: not a multiple of four
    torch.manual_seed(3)
    first, second = drop(values, 0.5), drop(values, 0.5)
    torch.manual_seed(3)
    assert torch.equal(drop(values, 0.5), first)
    assert not torch.equal(first, second)


def test_nothing_and_everything_can_be_dropped():
    values = torch.ones(5, requires_grad=True)
    assert drop(values, 0.0) is values
    everything = drop(values, 1.0)
    everything.sum().backward()
    assert (everything.tolist(), values.grad.tolist()) == ([0.0] * 5, [0.0] * 5)


def test_gradients_are_those_of_a_product_with_the_mask():
    torch.manual_seed(0)
    values, mask = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.rand(3, 4) < 0.5
    assert torch.autograd.gradcheck(lambda x: MaskedScale.apply(x, mask, 1.25), values)
    assert torch.autograd.gradgradcheck(lambda x: MaskedScale.apply(x, mask, 1.25), values)


def heads(*shape):
    return (torch.randn(*shape, dtype=torch.float64) for _ in range(3))


def test_attention_that_drops_nothing_is_torchs_own():
    torch.manual_seed(0)
    query, key, value = heads(2, 3, 5, 4)
    hidden = torch.zeros(2, 1, 1, 5, dtype=torch.float64)
    hidden[1, ..., 3:] = -1e9
    found, weights = attention(nn.Module(), query, key, value, hidden)
    expected = scaled_dot_product_attention(query, key, value, hidden).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)  # the softmax is in float32
    assert weights is None
    scaled, _ = attention(nn.Module(), query, key, value, None, scaling=1.0)
    expected = scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2)
    torch.testing.assert_close(scaled, expected, rtol=1e-6, atol=1e-7)


def test_attention_that_drops_weights_has_the_same_mean():
    torch.manual_seed(0)
    query, key, value = heads(1, 2, 6, 4)
    undropped, _ = attention(nn.Module(), query, key, value, None)
    drawn = torch.stack([attention(nn.Module(), query, key, value, None, dropout=0.3)[0] for _ in range(4000)])
    error = (drawn.mean(0) - undropped).abs() / (drawn.std(0) / 4000**0.5)
    assert drawn.std(0).min() > 0
    assert error.max() < 5


def dropped_by_hand(query, key, value, attention_mask, mask, scale):
    scores = query @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores + attention_mask.transpose(0, 1)
    return (scores.softmax(-1) * mask * scale) @ value


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("cached", [1, 2**19])
def test_attention_that_drops_has_the_gradients_of_autograd(padded, cached, monkeypatch):
    monkeypatch.setattr("m3se.modeling.cpu_dropout.CACHED_WEIGHTS", cached)  # a head at a time, or all
    torch.manual_seed(0)
    states = [states.requires_grad_() for states in heads(3, 2, 5, 4)]
    padding = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    padding[1, ..., 3:] = -1e9
    rest = (padding if padded else None, (torch.rand(3, 2, 5, 5) < 0.7).view(torch.int8), 1 / 0.7)
    outer = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    found, expected = (function(*states, *rest) for function in (DroppedAttention.apply, dropped_by_hand))
    pairs = zip(*(torch.autograd.grad(output, states, outer) for output in (found, expected)), strict=True)
    for one, other in ((found, expected), *pairs):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)  # the softmax is in float32


def test_attention_keeps_a_byte_of_a_weight_for_the_backward_pass():
    kept = []
    query, key, value = (torch.randn(2, 3, 40, 4, requires_grad=True) for _ in range(3))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        attention(nn.Module(), query, key, value, None, dropout=0.1)
    weights = [tensor for tensor in kept if tensor.shape[-2:] == (40, 40)]
    assert [(tensor.dtype, tensor.numel()) for tensor in weights] == [(torch.int8, 3 * 2 * 40 * 40)]
    assert sum(tensor.nbytes for tensor in kept) <= 3 * 2 * 40 * (40 + 3 * 4 * 4)


def test_attention_of_bfloat16_is_near_that_of_float32():
    torch.manual_seed(0)
    states = [torch.randn(2, 3, 20, 8, requires_grad=True) for _ in range(3)]
    halves = [part.detach().bfloat16().requires_grad_() for part in states]
    outer = torch.randn(2, 20, 3, 8)
    found = []
    for parts, gradient in ((states, outer), (halves, outer.bfloat16())):
        torch.manual_seed(1)
        output, _ = attention(nn.Module(), *parts, None, dropout=0.2)
        found.append((output, *torch.autograd.grad(output, parts, gradient)))
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == torch.bfloat16
        assert (rounded.float() - exact).norm() < 0.02 * exact.norm()


def small_model():
    encoder = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    return DualEncoder(DualEncoderConfig(encoder_config=encoder.to_dict()))


def embed(model):
    ids = torch.arange(5, 17).view(2, 6)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    return model.embed(ids, mask, "document")


def test_a_model_is_the_same_when_it_is_not_trained(tmp_path):
    model = small_model().eval()
    before, names = embed(model), list(model.state_dict())
    use_cpu_dropout(model)
    assert any(isinstance(part, CpuDropout) for part in model.encoder.modules())
    assert not any(type(part) is nn.Dropout for part in model.modules())
    torch.testing.assert_close(embed(model), before, rtol=1e-5, atol=1e-6)
    assert list(model.state_dict()) == names
    model.save_pretrained(tmp_path)
    assert "cpu_dropout" not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["encoder_config"]["hidden_dropout_prob"] == 0.1


def test_a_model_in_training_drops_in_layers_and_attention(monkeypatch):
    model = small_model().train()
    use_cpu_dropout(model)
    drawn = []

    def draw(shape, kept):
        drawn.append((tuple(shape), kept))
        return draw_mask(shape, kept)

    monkeypatch.setattr("m3se.modeling.cpu_dropout.draw_mask", draw)
    embed(model)
    kept = keeping_draws(0.1)
    assert drawn.count(((2, 2, 6, 6), kept)) == 2  # attention weights [h, B, L, L] of two layers
    assert drawn.count(((2, 6, 16), kept)) == 5  # states [B, L, H]: embeddings, and two in a layer
    assert drawn.count(((2, 16), kept)) == 1  # the embedding
