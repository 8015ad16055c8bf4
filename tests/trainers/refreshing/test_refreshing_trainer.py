"""Negatives that are drawn anew while training: which they are, and that a run ends alike however it was stopped."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertForSequenceClassification

from m3se import DualEncoder, InputError
from m3se.trainers.refreshing.folders import negatives_folders
from m3se.trainers.refreshing.plan import RefreshPlan
from m3se.trainers.refreshing.student_search import evaluation_mode
from m3se.trainers.teacher.loading import load_teacher
from tests.launch import launch
from tests.trainers.refreshing.refreshing_jobs import (
    lists_with_known_positives,
    refreshing_trainer,
    train_and_write_rows,
)
from tests.worlds import tiny


DEPTH = 7  # a list needs up to six: four documents, or the known positives beyond them


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny.save_classifier(tmp_path_factory.mktemp("teacher"), seed=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, teacher):
    """The folder of a run of six steps with draws after the second and the fourth, and its last weights."""
    folder = tmp_path_factory.mktemp("whole")
    plan = RefreshPlan(2, DEPTH, [load_teacher(teacher, "float32")], folder / "cache")
    trainer = refreshing_trainer(folder, plan, max_steps=6, save_strategy="steps", save_steps=1, loss="margin_mse")
    trainer.train()
    return folder, tiny.flat_weights(trainer.model)


def embedded(model, texts: list[str], length: int) -> np.ndarray:
    inputs = tiny.tokenizer()(texts, truncation=True, max_length=length, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.embed(inputs["input_ids"], inputs["attention_mask"]).double().numpy()


def relevant(row: dict) -> set[str]:
    listed = {name for name, label in zip(row["document_ids"], row["labels"], strict=True) if label > 0}
    return listed | set(row["positive_ids"])


@pytest.mark.parametrize("step", [2, 4])
def test_negatives_are_among_the_students_best_documents_at_that_step(step, whole):
    lists = lists_with_known_positives()
    model = DualEncoder.from_pretrained(whole[0] / f"checkpoint-{step}").eval()
    documents = embedded(model, lists.documents.texts(list(lists.documents.ids)), 16)
    rows = Dataset.from_file(str(whole[0] / f"negatives-{step}" / "rows.arrow"))
    assert rows["query_id"][:] == lists.rows["query_id"][:]
    changed = 0
    for old, new in zip(lists.rows, rows, strict=True):
        scores = documents @ embedded(model, [old["query"]], 8)[0]
        names = [lists.documents.ids[place] for place in np.argsort(-scores, kind="stable")]
        best = [name for name in names if name != new["query_id"]][:DEPTH]
        positives = [name for name, label in zip(old["document_ids"], old["labels"], strict=True) if label > 0]
        count = len(positives)
        assert new["query"] == old["query"] and new["positive_ids"] == old["positive_ids"]
        assert new["document_ids"][:count] == positives
        assert new["labels"] == [1.0] * count + [0.0] * (len(old["labels"]) - count)
        negatives = new["document_ids"][count:]
        assert len(set(negatives)) == len(negatives) == len(old["labels"]) - count
        assert set(negatives) <= set(best) - relevant(old)
        changed += set(negatives) != set(old["document_ids"][count:])
    assert changed == len(rows)


def test_new_documents_have_the_teachers_scores(whole, teacher):
    lists = lists_with_known_positives()
    classifier = BertForSequenceClassification.from_pretrained(teacher).eval()
    for row in Dataset.from_file(str(whole[0] / "negatives-4" / "rows.arrow")):
        texts = lists.documents.texts(row["document_ids"])
        inputs = tiny.tokenizer()([row["query"]] * len(texts), texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            expected = classifier(**inputs).logits[:, 0].tolist()
        assert row["teacher_scores"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("step", "workers"), [(2, 0), (3, 1), (4, 0)])
def test_a_resumed_run_ends_with_the_same_bits_and_lists(step, workers, whole, teacher, tmp_path):
    """At a draw, between two, and with a worker that reads ahead; a later draw of the killed run is not believed."""
    folder = shutil.copytree(whole[0], tmp_path / "run")
    for later in range(step + 1, 7):
        shutil.rmtree(folder / f"checkpoint-{later}")
    if step < 4:
        (folder / "negatives-4" / "rows.arrow").write_bytes(b"damaged")
    plan = RefreshPlan(2, DEPTH, [load_teacher(teacher, "float32")], folder / "cache")
    options = {"max_steps": 6, "loss": "margin_mse", "dataloader_num_workers": workers}
    trainer = refreshing_trainer(folder, plan, seed=7, **options)  # other weights: they come from the checkpoint
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{step}"))
    assert torch.equal(tiny.flat_weights(trainer.model), whole[1])
    lists = [(root / "negatives-4" / "rows.arrow").read_bytes() for root in (whole[0], folder)]
    assert lists[0] == lists[1]


def test_lists_that_a_checkpoint_needs_but_are_gone_are_missed_before_a_step(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(folder / "negatives-2")
    trainer = refreshing_trainer(folder, RefreshPlan(2, DEPTH), max_steps=6)
    with pytest.raises(InputError, match=r"negatives-2: the lists that were drawn after step 2 are missing; delete"):
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-3"))


def test_another_step_draws_others_of_the_same_ranking(tmp_path):
    """The weights stay, so that only the draw differs."""
    trainer = refreshing_trainer(tmp_path, RefreshPlan(1, 30), learning_rate=0.0, dropout=0.0)
    draws = {step: trainer.draw(step).rows["document_ids"][:] for step in (1, 2)}
    assert all(one != other for one, other in zip(draws[1], draws[2], strict=True))
    assert trainer.draw(1).rows["document_ids"][:] == draws[1]
    trainer.args.seed = 5
    assert trainer.draw(1).rows["document_ids"][:] != draws[1]


def test_lists_stay_as_long_as_a_checkpoint_needs_them(whole, tmp_path):
    assert sorted(negatives_folders(whole[0])) == [2, 4]  # checkpoint-2 and checkpoint-3 are there
    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    refreshing_trainer(tmp_path, RefreshPlan(1, DEPTH), **options).train()
    assert sorted(negatives_folders(tmp_path)) == [5]
    options["save_total_limit"] = 3
    refreshing_trainer(tmp_path / "three", RefreshPlan(1, DEPTH), **options).train()
    assert sorted(negatives_folders(tmp_path / "three")) == [4, 5]


def test_a_draw_changes_neither_mode_nor_random_numbers():
    model = tiny.dual_encoder(dropout=0.5).train()

    def numbers():
        return torch.rand(1).item(), random.random(), np.random.rand()

    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    expected = numbers()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    with evaluation_mode(model, torch.device("cpu")):
        assert not any(module.training for module in model.modules())
        numbers()
    assert numbers() == expected
    assert all(module.training for module in model.modules())


def test_sampled_documents_are_of_the_new_lists(tmp_path):
    trainer = refreshing_trainer(tmp_path, RefreshPlan(1, 30), sample_documents=3, dropout=0.0)
    before = {row["query_id"]: set(row["document_ids"]) for row in trainer.lists.rows}
    trainer.train()
    new = {row["query_id"]: set(row["document_ids"]) for row in trainer.current.rows}
    assert new != before
    for row in map(trainer.train_dataset.__getitem__, range(len(trainer.train_dataset))):
        assert set(row["document_ids"]) <= new[row["query_id"]] and len(row["document_ids"]) <= 3


def test_a_depth_that_would_shorten_a_list_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"refresh_depth: expected at least 6, .* query 'd11', got 5 of 39 documents"):
        refreshing_trainer(tmp_path, RefreshPlan(1, 5))


@pytest.mark.linux
def test_two_processes_train_on_the_same_new_lists_as_one(teacher, tmp_path):
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    train_and_write_rows(tmp_path / "one", 4, teacher)
    launch(train_and_write_rows, tmp_path / "two", 2, teacher)
    one, first, second = (
        json.loads((tmp_path / name).read_text(encoding="utf-8"))
        for name in ("one/rows0.json", "two/rows0.json", "two/rows1.json")
    )
    assert first == second
    assert {name: first[name] for name in ("document_ids", "labels")} == {
        name: one[name] for name in ("document_ids", "labels")
    }
    scores = np.concatenate(first["teacher_scores"]), np.concatenate(one["teacher_scores"])
    np.testing.assert_allclose(*scores, atol=1e-5)
