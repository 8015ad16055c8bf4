import json

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig

from modeling import DualEncoder, DualEncoderConfig
from modeling.cpu_dropout import DRAWS, CpuDropout, MaskedScale, attention, draw_mask, drop, use_cpu_dropout


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
    rates = []
    monkeypatch.setattr("modeling.cpu_dropout.drop", lambda values, rate: rates.append((values.ndim, rate)) or values)
    embed(model)
    assert (4, 0.1) in rates  # attention weights [B, h, L, L]
    assert (3, 0.1) in rates  # states [B, L, H]
