"""make_retriever.py with students of the encoder's first layers, which match the embeddings of all before."""

import json

import numpy as np
import pytest
from transformers import AutoModel

from m3se import load_scorer
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.run_scripts.retriever.reuse import has_lists
from m3se.trainers.backends import choice
from m3se.trainers.data import RankingLists
from tests.reliability.forked import Run
from tests.run_scripts.retriever_world import options, write_world


pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.linux]
FIRST = {"teacher": ["start", "bm25"], "anyway": True, "hours": 0.02, "students": 1, "layers": 1, "rounds": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("first_layers"))


@pytest.fixture(scope="module")
def lines(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "find_spec", lambda package: None)  # without ONNX Runtime no search is prepared
        run = Run("make_retriever", options(world, **FIRST), world / "out").finish()
    assert run["status"] == 0, run["lines"][-3:]
    return run["lines"]


def options_of(folder):
    return json.loads((folder / "training.json").read_text(encoding="utf-8"))["options"]


def test_every_student_goes_on_from_the_layers_that_matched(world, lines):
    out = world / "out"
    assert options_of(out / "students" / "first_layers")["embedding_teacher"] == str(out / "start")
    assert options_of(out / "students" / "mixed")["encoder"] == str(out / "starts" / "first_layers")
    assert options_of(out / "students" / "round2")["encoder"] == str(out / "starts" / "round2")
    assert AutoModel.from_pretrained(out / "model", trust_remote_code=True).config.num_hidden_layers == 1
    assert AutoModel.from_pretrained(out / "start", trust_remote_code=True).encoder.config.num_hidden_layers == 3


def test_the_first_layers_embed_as_all_of_them_do(world, lines):
    out = world / "out"
    lists = RankingLists.load(out / "lists" / "test")
    texts = lists.documents.texts(lists.documents.ids)
    start, shallow = (load_scorer(out / name).encode(texts, "document") for name in ("start", "starts/first_layers"))
    units = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (start, shallow)]
    assert (units[0] * units[1]).sum(axis=1).mean() > 0.9


def test_held_out_queries_are_not_matched(world, lines):
    lists = {name: RankingLists.load(world / "out" / "lists" / name) for name in ("texts", "train", "dev", "test")}
    queries = {name: set(part.rows["query_id"]) for name, part in lists.items()}
    assert queries["texts"] == queries["train"]  # these documents are too short to make sentences of
    assert not queries["texts"] & (queries["dev"] | queries["test"])
    assert {name for names in lists["texts"].rows["document_ids"] for name in names} == set(
        lists["texts"].documents.ids
    )


def test_the_verdict_and_the_page_say_what_the_student_is_and_how_fast(world, lines):
    verdict = json.loads((world / "out" / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["seconds_per_text"]["student"] < verdict["seconds_per_text"]["start"]
    assert any(line.startswith("A document takes ") for line in lines)
    card = (world / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "It began as the first 1 layers of encoder, which had been trained to embed" in card
    assert "A document takes " in card
    first = (world / "out" / "starts" / "first_layers" / "README.md").read_text(encoding="utf-8")
    assert "Its embeddings were trained to match those of start" in first and "It began as" not in first
    page = (world / "out" / "report.html").read_text(encoding="utf-8")
    assert ": its first 1 layers, which learned to embed as all of them do" in page


def test_lists_of_a_run_with_all_layers_lack_the_texts(world, lines):
    assert has_lists(RetrieverArguments(**options(world, **FIRST)))
    whole = RetrieverArguments(**options(world, **FIRST | {"layers": None}))
    assert has_lists(whole)
    (world / "out" / "lists" / "texts" / "data_report.json").unlink()
    assert has_lists(whole) and not has_lists(RetrieverArguments(**options(world, **FIRST)))
