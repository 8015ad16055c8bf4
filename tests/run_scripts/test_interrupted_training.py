"""A training that is killed leaves nothing that looks finished, and the same command brings it to the same end."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import tiny
from tests.run_scripts.small_world import write_encoder


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    root = tmp_path_factory.mktemp("training")
    tiny.ranking_lists(queries=16).save(root / "lists")
    options = {
        "data": root / "lists",
        "encoder": write_encoder(root / "encoder"),
        "loss": "m3se",
        "dev_queries": 0,
        "max_steps": 120,
        "save_steps": 10,
        "save_total_limit": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "token_dropout": 0.1,
        "train_sample_size": 0,
        "document_length": 16,
        "eval_strategy": "no",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return root, [sys.executable, "run_scripts/distill.py", *flags]


def train(command: list[str], output: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*command, "--output_dir", str(output)], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_killed_training_goes_on_to_the_same_weights(command, how):
    root, line = command
    undisturbed = root / "undisturbed"
    if not undisturbed.exists():
        assert train(line, undisturbed).wait(timeout=120) == 0
    output = root / how.name
    process = train(line, output)
    deadline = time.monotonic() + 60
    while not list(output.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode != 0
    (output / "checkpoint-1000").mkdir()  # what a kill in the middle of saving leaves: no trainer_state.json
    assert not (output / "config.json").exists() and not (output / "training.json").exists()

    process = train(line, output)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log[-2000:]
    assert "checkpoint-1000 is incomplete" in log and "resuming from" in log
    assert (output / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
