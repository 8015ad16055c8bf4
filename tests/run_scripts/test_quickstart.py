import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from m3se import DualEncoder
from m3se.run_scripts import quickstart
from tests.reliability.forked import Run
from tests.worlds.small_world import shrink_quickstart


ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("quickstart")
    command = [sys.executable, "run_scripts/quickstart.py", "--recipes", str(shrink_quickstart(root))]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert first.returncode == 0, first.stderr[-3000:]
    return root, first


def test_the_table_has_every_system_on_every_held_out_query(finished):
    root, first = finished
    table = (root / "evaluation" / "table.md").read_text(encoding="utf-8")
    assert table.strip() in first.stdout
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert rows[2:] == ["BM25", "CA teacher", "DE one-hot", "DE softmax CE", "DE M3SE"]
    for name in ("bm25", "ca-teacher", "de-m3se"):
        metrics = json.loads((root / "evaluation" / name / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["queries"] == 6 and 0 <= metrics["MRR@10"] <= metrics["candidate_recall"] <= 1


def test_the_students_differ_in_nothing_but_the_loss(finished):
    root, _ = finished
    records = [json.loads((root / name / "training.json").read_text()) for name in ("de_one_hot", "de_m3se")]
    assert [record["loss"] for record in records] == ["softmax_ce", "m3se"]
    for name in ("options", "data"):
        assert records[0][name] == records[1][name]


def test_plain_automodel_gives_the_embeddings_of_the_trained_model(finished):
    root, _ = finished
    published, trained = AutoModel.from_pretrained(root / "de-m3se"), DualEncoder.from_pretrained(root / "de_m3se")
    inputs = AutoTokenizer.from_pretrained(root / "de-m3se")(["red river", "stone"], padding=True, return_tensors="pt")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    hidden = published(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(mean, trained.eval().embed(ids, mask))


def test_the_card_holds_the_table(finished):
    root, _ = finished
    table = (root / "evaluation" / "table.md").read_text(encoding="utf-8")
    card = (root / "de-m3se" / "README.md").read_text(encoding="utf-8")
    assert all(line in card for line in table.splitlines() if line.startswith("|"))


def test_the_next_command_is_one_of_an_installed_package(finished):
    root, first = finished
    assert f'\n  m3se search --model {root / "de-m3se"} --data pydocs "' in first.stdout


def test_without_recipes_those_that_come_along_are_read_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = []
    monkeypatch.setattr(quickstart, "run_stage", lambda script, options: stages.append(options[1]))
    monkeypatch.setattr(quickstart, "publish", lambda *_: tmp_path)
    quickstart.main(quickstart.QuickstartArguments())
    recipes = Path(quickstart.__file__).resolve().parent / "recipes/quickstart"  # a strict installation has links
    assert stages == [str(recipes / f"{name}.yaml") for name in quickstart.STAGES]


@pytest.mark.linux
def test_a_second_run_reuses_what_is_unchanged_and_says_so(finished):
    root, _ = finished
    weights = (root / "de_m3se" / "model.safetensors").read_bytes()
    second = Run("quickstart", {"recipes": root / "recipes"}, root).finish()
    assert second["status"] == 0, second["lines"]
    for name in ("teacher", "de_one_hot", "de_softmax_ce", "de_m3se"):
        assert f"{root / name}: nothing has changed since it was trained; reused" in second["lines"]
    assert (root / "de_m3se" / "model.safetensors").read_bytes() == weights
