"""distill.py from encoders that pool in their own way, and with words before every text."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from m3se import DualEncoder, InputError, load_scorer
from m3se.run_scripts import distill
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.work import distill as student_work
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.run_folder import KEY
from tests.run_scripts.distilling import dense_model, distilled, flags, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("distill"))


def test_a_student_pools_like_its_encoder_unless_told_otherwise(world, tmp_path):
    def pooling(encoder, **options):
        student, model_arguments, *_ = parse(distill.make_parser(), flags(world, tmp_path, encoder=encoder, **options))
        return student_work.build_model(student, model_arguments).config.pooling

    mean = dense_model(world, tmp_path / "mean", "mean_tokens")
    assert pooling(mean) == "mean"
    assert pooling(mean, pooling="cls") == "cls"
    assert pooling(world / "encoder") == "cls"  # a bare one, as in the paper
    assert pooling(dense_model(world, tmp_path / "last", "lasttoken")) == "last"
    unknown = dense_model(world, tmp_path / "max", "max_tokens")
    assert pooling(unknown, pooling="mean") == "mean"
    with pytest.raises(InputError, match="max pools by max_tokens; expected cls, mean or lasttoken"):
        distilled(world, tmp_path / "out", encoder=unknown)


def prefixed_lists(world: Path, folder: Path, query_prompt: str, document_prompt: str) -> Path:
    """The world's lists with words written before every text."""
    lists = RankingLists.load(world / "lists")
    ids = [f"d{number}" for number in range(len(lists.documents))]
    texts = [document_prompt + text for text in lists.documents.texts(ids)]
    rows = lists.rows.map(lambda row: {"query": query_prompt + row["query"]})
    RankingLists(rows, DocumentTable.from_texts(ids, texts)).save(folder)
    return folder


@pytest.mark.parametrize("architecture", ["dual_encoder", "colbert"])
def test_training_with_prompts_is_training_on_texts_that_begin_with_them(architecture, world, tmp_path):
    prompts = {"query_prompt": "salt: ", "document_prompt": "[iron] light "}  # no text begins with them already
    student = distilled(world, tmp_path / "prompts", architecture=architecture, **prompts)
    data = prefixed_lists(world, tmp_path / "data", **prompts)
    by_hand = distilled(world, tmp_path / "by_hand", architecture=architecture, data=data)
    weights = [load_file(folder / "model.safetensors") for folder in (student, by_hand)]
    torch.testing.assert_close(*weights, atol=0, rtol=0)


def test_a_start_with_prompts_is_trained_and_published_with_them(world, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    start = dense_model(world, tmp_path / "start", "mean_tokens")
    settings = {"prompts": {"query": "salt ", "passage": "iron light "}, "default_prompt_name": None}
    (start / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    student = distilled(world, tmp_path / "student", encoder=start)
    record = json.loads((student / "training.json").read_text(encoding="utf-8"))
    assert record["prompts"] == {"query": "salt ", "document": "iron light "}
    assert "queries begin with 'salt ', documents with 'iron light '" in caplog.text
    published = build_folder(student, tmp_path / "published")
    query, documents = "red tree", ["red stone", "blue green river stone salt", "iron light night"]
    model = SentenceTransformer(str(published), device="cpu")
    added = [text.removeprefix("iron light ") for text in documents]  # the library would put it there twice
    expected = model.similarity(model.encode_query([query]), model.encode_document(added))[0]
    for folder in (student, published):
        scorer = load_scorer(folder, "float32", device="cpu")
        torch.testing.assert_close(torch.tensor(scorer.score(query, documents)), expected, atol=1e-5, rtol=1e-5)
    without = distilled(world, tmp_path / "without", encoder=start, query_prompt="", document_prompt="")
    assert DualEncoder.from_pretrained(without).config.query_prompt == ""
    assert load_scorer(without).fingerprint != load_scorer(student).fingerprint


def test_a_run_of_before_an_option_came_is_reused(world, tmp_path):
    output = distilled(world, tmp_path)
    key = json.loads((output / KEY).read_text(encoding="utf-8"))
    del key["options"]["query_prompt"]
    (output / KEY).write_text(json.dumps(key), encoding="utf-8")
    written = (output / "training.json").stat().st_mtime_ns
    distilled(world, output)
    assert (output / "training.json").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="holds a run with query_prompt None in place of 'salt '"):
        distilled(world, output, query_prompt="salt ")
