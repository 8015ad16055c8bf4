"""make_retriever.py with students that teach: scored by the one before, begun anew, and gone on with after a kill."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from m3se import DualEncoder
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.run_scripts.retriever.trials import born_again, find
from m3se.run_scripts.work import make_retriever
from m3se.trainers.backends import choice
from m3se.trainers.data import RankingLists
from tests.reliability.forked import Run, digests
from tests.run_scripts.retriever_world import options, write_world


pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.linux]
BORN_AGAIN = {"teacher": ["start", "bm25"], "anyway": True, "hours": 0.02, "students": 1, "rounds": 3}
BORN_AGAIN |= {"born_again": True, "dtype": "float32"}  # whose scores are compared with others by hand


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("born_again"))


@pytest.fixture(scope="module")
def runs(world):
    """A run that is killed as soon as round 2 has ended, what it had left of that round, and the one that goes on."""
    second = world / "out" / "students" / "round2"
    flags = options(world, **BORN_AGAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "find_spec", lambda package: None)  # without ONNX Runtime no search is prepared
        ended = Run("make_retriever", flags, world / "out", moment=(second / "training.json").is_file).finish()
        left = digests(second)
        assert ended["status"] == -9 and left and not (world / "out" / "scored" / "round3").exists()
        again = Run("make_retriever", flags, world / "out").finish()
    assert again["status"] == 0, again["lines"][-20:]
    return ended, left, again


def products(folder, lists: RankingLists) -> list[list[float]]:
    """The inner products of each row by the mean of the model's hidden states, one text at a time."""
    model, tokenizer = DualEncoder.from_pretrained(folder).encoder.eval(), AutoTokenizer.from_pretrained(folder)

    def vector(text: str, length: int) -> torch.Tensor:
        inputs = tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            return model(inputs["input_ids"]).last_hidden_state[0].mean(dim=0).double()

    scores = []
    for row in lists.rows:
        query = vector(row["query"], 8)
        texts = lists.documents.texts(row["document_ids"])
        scores.append([float(query @ vector(text, 16)) for text in texts])
    return scores


@pytest.mark.parametrize(("number", "teacher"), [(2, "mixed"), (3, "round2")])
def test_the_lists_of_the_first_round_are_scored_by_the_student_before(number, teacher, world, runs):
    lists, first = (RankingLists.load(world / "out" / "scored" / name) for name in (f"round{number}", "train"))
    assert list(lists.rows["document_ids"]) == list(first.rows["document_ids"])
    expected = np.concatenate(products(world / "out" / "students" / teacher, lists))
    np.testing.assert_allclose(np.concatenate(lists.rows["teacher_scores"]), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - np.concatenate(first.rows["teacher_scores"])).max() > 0.1
    assert [entry["name"] for entry in lists.report["teachers"]] == [teacher]


def test_every_student_begins_where_the_first_did(world, runs):
    weights = []
    for name in ("mixed", "round2", "round3"):
        folder = world / "out" / "students" / name
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        assert record["options"]["encoder"] == str(world / "encoder")
        weights.append(load_file(folder / "model.safetensors")["encoder.embeddings.word_embeddings.weight"])
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    assert not (world / "out" / "starts").exists()


def test_the_records_say_who_taught_whom(world, runs, tmp_path):
    _, _, again = runs
    verdict = json.loads((world / "out" / "verdict.json").read_text(encoding="utf-8"))
    second = "student, born again in round 2"
    assert verdict["taught_by"] == {"round2": find("mixed").title, "round3": second}
    assert {second, "student, born again in round 3"} <= verdict["values"]["re-ranking"].keys()
    page = (world / "out" / "report.html").read_text(encoding="utf-8")
    assert f"start + bm25; {second}: taught by student, teacher and labels; " in page
    assert f"student, born again in round 3: a new one, taught by {second}" in again["lines"]
    make_retriever.publish(RetrieverArguments(**options(world, **BORN_AGAIN)), born_again(2, find("mixed")), tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "The scores of a teacher (student, teacher and labels, of the same start) were distilled" in card


def test_a_run_that_was_killed_between_rounds_goes_on(world, runs):
    ended, left, again = runs
    assert any("round 2 is taught by the best student of round 1" in line for line in ended["lines"])
    reused = [line for line in again["lines"] if line.endswith("nothing has changed since it was trained; reused")]
    assert [line.split(":")[0] for line in reused] == [
        str(world / "out" / "students" / n) for n in ("mixed", "round2")
    ]
    assert digests(world / "out" / "students" / "round2") == left
