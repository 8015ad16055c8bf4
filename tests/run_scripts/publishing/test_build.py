"""What a published folder is built from, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from m3se import DualEncoder, DualEncoderConfig
from m3se.run_scripts.publishing.build import build_folder
from m3se.trainers.errors import InputError
from tests.worlds import tiny
from tests.worlds.example_models import TOKENIZER, WORDS, colbert, dual_encoder, save


def record(directory, **values):
    (directory / "training.json").write_text(json.dumps(values), encoding="utf-8")


def evaluation(step, dev, train):
    return {"step": step, "eval_nDCG@10": dev, "eval_MRR@10": dev, "train_nDCG@10": train, "train_MRR@10": train}


def test_the_card_tells_the_run_and_shows_its_pictures(tmp_path):
    directory = save(dual_encoder(), tmp_path / "trained")
    record(
        directory,
        loss="m3se",
        teacher="org/ca",
        data={"name": "msmarco-passage", "queries": 10, "documents": 99, "documents_per_query": 4},
        hyperparameters={"learning_rate": 0.01, "run_name": "secret", "hub_token": "x", "resume_from_checkpoint": "y"},
        log_history=[{"step": 1, "loss": 2.0}, evaluation(2, 0.25, 0.5), evaluation(4, 0.5, 0.75), {"step": 4}],
    )
    diagnostics = tmp_path / "diagnostics"
    diagnostics.mkdir()
    for name in ("margins", "stages"):
        (diagnostics / f"{name}.png").write_bytes(name.encode())
    page = "# x\n\n![Normalised margins](margins.png)\n\n![Scores while training](stages.png)\n"
    (diagnostics / "diagnostics.md").write_text(page)
    folder = build_folder(directory, tmp_path / "de", diagnostics=diagnostics)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| 2 | 0.2500 | 0.2500 | 0.5000 | 0.5000 |\n| 4 | 0.5000 | 0.5000 | 0.7500 | 0.7500 |\n" in text
    assert "non-commercial research" in text
    assert "secret" not in text and "resume" not in text and '"learning_rate": 0.01' in text
    assert "![Normalised margins](images/margins.png)" in text and "stages" not in text
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["learning_curve.png", "margins.png"]
    assert (folder / "images" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_backbone_whose_config_names_its_width_otherwise_is_published(tmp_path):
    sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 256}
    config = AutoConfig.for_model("distilbert", vocab_size=len(TOKENIZER), **sizes)
    model = DualEncoder(DualEncoderConfig(encoder_config=config, pooling="mean"))
    folder = build_folder(save(model, tmp_path / "trained"), tmp_path / "de")
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 16
    assert "| embedding | 16 dimensions, " in (folder / "README.md").read_text(encoding="utf-8")
    assert torch.equal(
        DualEncoder.from_pretrained(folder).encoder.embeddings.word_embeddings.weight,
        model.encoder.embeddings.word_embeddings.weight,
    )


@pytest.mark.parametrize("metrics", [{"candidate_recall": None, "ties": None}, {}])
def test_metrics_without_candidates_or_ties_are_published(tmp_path, metrics):
    directory = save(dual_encoder(), tmp_path / "trained")
    (tmp_path / "metrics.json").write_text(json.dumps({"MRR@10": 0.5, "data": "x", **metrics}))
    folder = build_folder(directory, tmp_path / "de", metrics=tmp_path / "metrics.json")
    assert "Measured on x.\n" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_curve_of_one_point_is_not_drawn(tmp_path):
    directory = save(dual_encoder(), tmp_path / "trained")
    record(directory, loss="m3se", log_history=[evaluation(2, 0.25, 0.5)])
    assert not (build_folder(directory, tmp_path / "de") / "images").exists()


def test_building_needs_no_network(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection was opened")

    for name, make in (("de", dual_encoder), ("custom", lambda: dual_encoder(output_norm=True)), ("colbert", colbert)):
        directory = save(make(), tmp_path / "trained" / name)
        with monkeypatch.context() as patch:
            patch.setattr("socket.socket.connect", refuse)
            patch.setattr("socket.getaddrinfo", refuse)
            build_folder(directory, tmp_path / name)


def test_two_builds_are_the_same_to_the_byte(tmp_path):
    directory = save(dual_encoder(), tmp_path / "trained")
    record(directory, loss="m3se", log_history=[evaluation(2, 0.25, 0.5), evaluation(4, 0.5, 0.75)])
    first, second = (build_folder(directory, tmp_path / place / "de") for place in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) > 8
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def without(name):
    def spoil(directory, arguments):
        (directory / name).unlink()

    return spoil


def other_tokenizer(directory, arguments):
    tiny.tokenizer([*WORDS, *(f"word{i}" for i in range(80))]).save_pretrained(directory)


def spoiled_metrics(text):
    def spoil(directory, arguments):
        (directory / "metrics.json").write_text(text)
        arguments["metrics"] = directory / "metrics.json"

    return spoil


def given(**values):
    def spoil(directory, arguments):
        arguments |= values

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), "config.json: cannot be read"),
        (without("model.safetensors"), "trained: .*model.safetensors"),
        (without("tokenizer.json"), "has no tokenizer: expected one of tokenizer.json, vocab.txt"),
        (other_tokenizer, r"the tokenizer has 1\d\d tokens, the model knows only \d\d$"),
        (spoiled_metrics("{"), "metrics.json: not JSON"),
        (spoiled_metrics("[]"), "metrics.json: expected a JSON object, got list"),
        (spoiled_metrics('{"MRR@10": 0.5}'), "does not say which data"),
        (spoiled_metrics('{"queries": 5, "data": "x"}'), "metrics have no measure"),
        (given(table=Path("missing.md")), "missing.md: cannot be read"),
        (given(pictures={Path("missing.png"): "x"}), "missing.png: no such picture"),
        (given(diagnostics=Path("missing")), "diagnostics.md: cannot be read"),
        (given(benchmark="org/b:task:MRR@10"), "metrics have no measure"),
        (given(license="Apache 2"), "license: expected one of the Hub's, such as apache-2.0, .* got 'Apache 2'"),
        (given(language="English"), "language: expected an ISO 639 code such as en, .* got 'English'"),
        (given(base_model="/data/bert"), "base_model: expected an id of the Hub, such as org/name, got '/data/bert'"),
        (given(datasets=["ms marco"]), "datasets: expected an id of the Hub, such as org/name, got 'ms marco'"),
        (given(example_query="see hf_" + "a" * 34), "README.md would hold an access token"),
    ],
)
def test_what_cannot_be_published_is_named_and_leaves_nothing(tmp_path, spoil, message):
    directory, arguments = save(dual_encoder(), tmp_path / "trained"), {}
    spoil(directory, arguments)
    with pytest.raises(InputError, match=message):
        build_folder(directory, tmp_path / "de", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


def test_a_model_that_is_not_ours_is_refused(tmp_path):
    dual_encoder().encoder.save_pretrained(tmp_path / "bert")
    TOKENIZER.save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match="model_type is 'bert'; expected one of colbert, cross_encoder, dual_encoder"):
        build_folder(tmp_path / "bert", tmp_path / "de")


def test_a_model_is_never_replaced_by_its_own_publication(tmp_path):
    directory = save(dual_encoder(), tmp_path / "trained")
    with pytest.raises(InputError, match="cannot be the model's own directory"):
        build_folder(directory, directory)
