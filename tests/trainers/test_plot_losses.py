"""docs/plot_losses.py draws what the losses are."""

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

from m3se import LOSSES


SCRIPT = Path(__file__).parents[2] / "docs" / "plot_losses.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_loss_is_in_the_picture(script):
    assert sorted(script.SQUARES + script.ENTROPIES) == sorted(LOSSES)


@pytest.mark.parametrize("document", [0, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_curves_are_a_loss_and_its_derivative(name, document, script, monkeypatch):
    around = 0.7 + torch.tensor([-1e-5, 0.0, 1e-5], dtype=torch.float64)
    monkeypatch.setattr(script, "RANGE", around)
    values, gradients = script.values_and_gradients(name, document)
    scores = script.STUDENT.clone()
    scores[0, document] = 0.7
    assert values[1] == LOSSES[name](scores, script.TEACHER, script.LABELS, script.MASK)
    torch.testing.assert_close(gradients[1], (values[2] - values[0]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_it_writes_one_picture(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "RANGE", torch.linspace(-4, 8, 13, dtype=torch.float64))
    script.main(tmp_path / "losses.png")
    assert Image.open(tmp_path / "losses.png").size == Image.open(script.PICTURE).size
