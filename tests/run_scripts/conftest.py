"""A Hub on this machine, and a trained model to publish there."""

import json
import shutil

import pytest
import torch
from huggingface_hub import HfApi

from m3se.run_scripts.publishing.build import build_folder
from tests.hub_server import serve
from tests.worlds import tiny


SECRET = "hf_" + "x" * 34


@pytest.fixture
def hub(monkeypatch):
    """An empty Hub; waiting between tries takes no time."""
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with serve() as hub:
        yield hub


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token="writer")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained model's directory with everything that must not be published."""
    folder = tmp_path_factory.mktemp("trained")
    tiny.dual_encoder().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    torch.save({"hub_token": SECRET}, folder / "training_args.bin")
    record = {
        "loss": "m3se",
        "hyperparameters": {"learning_rate": 0.1, "hub_token": SECRET, "output_dir": str(folder)},
    }
    (folder / "training.json").write_text(json.dumps(record | {"teacher": str(folder)}))
    return folder


@pytest.fixture(scope="module")
def built(trained, tmp_path_factory):
    """The published folder of that model."""
    return build_folder(trained, tmp_path_factory.mktemp("built") / "de-tiny")


@pytest.fixture
def changed(built, tmp_path):
    """The same folder with another card."""
    folder = shutil.copytree(built, tmp_path / "de-tiny")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder
