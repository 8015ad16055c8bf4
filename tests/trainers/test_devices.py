import pytest
import torch

from m3se.trainers.devices import autocast_dtype


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16)],
)
def test_a_cpu_computes_in_bfloat16_where_it_multiplies_in_it(avx512, amx, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert autocast_dtype("cpu") == autocast_dtype(torch.device("cpu")) == expected


def test_other_processors_are_not_asked_what_the_cpu_can(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert autocast_dtype("mps") == torch.float32
