"""distill.py in this process: what its options make of the model, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from m3se import ColBERT, CrossEncoder, DualEncoder, InputError
from m3se.run_scripts import distill, train_teacher
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.work import distill as student_work
from m3se.trainers.data import RankingLists
from tests.run_scripts.distilling import distilled, flags, write_world
from tests.worlds import tiny
from tests.worlds.small_world import write_collection


KINDS = {"dual_encoder": DualEncoder, "colbert": ColBERT, "cross_encoder": CrossEncoder}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("distill"))


def score(model, world: Path):
    with torch.no_grad():
        return model.eval()(**tiny.model_inputs(tiny.batch(RankingLists.load(world / "lists")))).scores


@pytest.mark.parametrize("architecture", KINDS)
def test_an_adapter_is_merged_into_a_checkpoint_of_our_own_and_kept_beside_it(architecture, world, tmp_path):
    options = {"architecture": architecture, "lora_r": 2, "lora_targets": ["query", "value"]}
    if architecture == "colbert":
        options["colbert_args"] = '{"mask_augmentation": "none", "skip_punctuation": false}'
    output = distilled(world, tmp_path / "lora", **options)
    merged = KINDS[architecture].from_pretrained(output)
    assert not any("lora" in name for name in load_file(output / "model.safetensors"))
    start = distilled(world, tmp_path / "start", **options, learning_rate=0.0)
    adapted = PeftModel.from_pretrained(KINDS[architecture].from_pretrained(start), output / "adapter")
    torch.testing.assert_close(score(adapted, world), score(merged, world), rtol=1e-4, atol=1e-4)
    untrained = KINDS[architecture].from_pretrained(start)
    assert (score(merged, world) - score(untrained, world)).abs().nan_to_num(0).max() > 1e-2
    assert not list(output.rglob("training_args.bin"))
    assert json.loads((output / "training.json").read_text(encoding="utf-8"))["options"]["lora_r"] == 2


def test_a_teacher_takes_an_adapter_too(world, tmp_path):
    options = {"data": write_collection(tmp_path / "words"), "documents_per_query": 4, "depth": 10, "lora_r": 2}
    line = flags(world, tmp_path / "teacher", **options, loss="softmax_ce", cache_dir=tmp_path / "cache")
    train_teacher.main(*parse(train_teacher.make_parser(), line))
    assert CrossEncoder.from_pretrained(tmp_path / "teacher").config.encoder_config.num_hidden_layers == 1


def test_an_unknown_layer_is_refused_before_training(world, tmp_path):
    with pytest.raises(InputError, match="lora_targets: expected some of dense, key, query, value, got Wqkv"):
        distilled(world, tmp_path, lora_r=2, lora_targets=["Wqkv"])


def test_a_colbert_student_may_do_without_a_projection(world, tmp_path):
    options = {"architecture": "colbert", "projection_size": 0}
    model = ColBERT.from_pretrained(distilled(world, tmp_path, **options))
    assert not any("projection" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    "shape",
    [
        {"tied": False, "dropout": 0.4, "pooling": "mean"},
        {"projection_size": 6, "output_norm": True, "dropout": 0.4},
    ],
    ids=str,
)
def test_the_student_has_the_shape_and_dropout_asked_for(shape, world, tmp_path):
    model = DualEncoder.from_pretrained(distilled(world, tmp_path, **shape))
    for name in shape.keys() - {"dropout"}:
        assert getattr(model.config, name) == shape[name]
    encoders = [model.encoder] if model.config.tied else [model.encoder, model.document_encoder]
    for encoder in encoders:
        assert {part.p for part in encoder.modules() if isinstance(part, torch.nn.Dropout)} == {0.4}


@pytest.mark.parametrize("architecture", ["dual_encoder", "colbert"])
def test_a_student_has_the_scale_asked_for(architecture, world, tmp_path):
    options = {"architecture": architecture, "scale": 3, "learn_scale": True}
    student, model_arguments, *_ = parse(distill.make_parser(), flags(world, tmp_path, **options))
    model = student_work.build_model(student, model_arguments)
    assert (model.reached_scale(), model.config.learn_scale) == (3.0, True)


def test_a_student_that_learns_its_scale_says_so_in_record_and_card(world, tmp_path):
    options = {"normalize": True, "loss": "m3se", "score_scale": "learned", "train_sample_size": 8, "logging_steps": 1}
    output = distilled(world, tmp_path / "student", **options, learning_rate=1e-3)
    model = DualEncoder.from_pretrained(output)
    record = json.loads((output / "training.json").read_text(encoding="utf-8"))
    assert record["hyperparameters"]["score_scale"] == "learned"
    ratio = model.reached_scale() / 20
    assert record["score_scale"]["score_scale"] == pytest.approx(ratio, rel=0.3)  # two steps of .1
    scales = [entry["scale"] for entry in record["log_history"] if "scale" in entry]
    assert scales[-1] == model.reached_scale() != scales[0]
    card = (build_folder(output, tmp_path / "published") / "README.md").read_text(encoding="utf-8")
    assert f"in m3se times {model.reached_scale():.4g}, which was learned |" in card
    teacher, student = (record["score_scale"][f"{side}_spread"] for side in ("teacher", "student"))
    assert f"| spread of scores | {teacher:.4g} the teacher's, {student:.4g} the student's before training" in card
    published = DualEncoder.from_pretrained(tmp_path / "published")
    assert published.config.scale == published.reached_scale() == pytest.approx(model.reached_scale())


@pytest.mark.parametrize("rate", [0.2, 0.0])
def test_a_cpu_draws_cheap_masks_where_attention_is_dropped(rate, world, tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr("m3se.modeling.cpu_dropout.drop", lambda values, rate: rates.append(rate) or values)
    distilled(world, tmp_path / "out", dropout=rate, embedding_dropout=0.0)
    assert set(rates) == ({0.0, 0.2} if rate else set())  # 0: the embedding's
    assert "cpu_dropout" not in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"query_prompt": "red blue green tree river stone"},
            r"query_prompt: 'red .* stone' has 8 tokens, special ones included, and leaves no room .*query_length 8",
        ),
        (
            {"query_prompt": "red blue green tree river", "architecture": "colbert"},
            "has 8 tokens, special ones included",  # the marker is one
        ),
        ({"document_prompt": "salt ", "architecture": "cross_encoder"}, "takes no prompts, got '' and 'salt '"),
        ({"pooling": "max"}, "pooling must be 'cls', 'mean' or 'last', got 'max'"),
        ({"scale": 0}, "scale must be a number above 0, got 0.0"),
        ({"scale": "nan", "architecture": "colbert"}, "scale must be a number above 0, got nan"),
        ({"learn_scale": True, "architecture": "cross_encoder"}, "scale, learn_scale: a cross_encoder has none"),
        ({"normalize": True, "architecture": "colbert"}, "normalize: of a dual_encoder; a colbert has it in colb"),
        ({"layers": 4}, "layers must be 0 to 3 for .*, got 4"),
        ({"projection_size": -1}, "projection_size: expected a width, or 0 for none, got -1"),
        ({"embedding_dropout": 1.5}, "dropout probability has to be between 0 and 1, but got 1.5"),
        ({"query_length": 2}, "expected at least 3 tokens, .*, got 2 and 16"),
        ({"document_length": 65}, "at most the encoder's 64 positions, got 8 and 65"),
        (
            {"document_length": 58, "architecture": "cross_encoder"},
            "at most the encoder's 64 positions for both together, got 8 and 58",
        ),
    ],
    ids=str,
)
def test_a_model_that_cannot_be_is_refused_before_a_run_is_begun(options, message, world, tmp_path):
    with pytest.raises(InputError, match=message):
        distilled(world, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_texts_may_be_as_long_as_the_encoder_has_positions(world, tmp_path):
    for options in ({"document_length": 64}, {"document_length": 57, "architecture": "cross_encoder"}):
        student, model_arguments, *_ = parse(distill.make_parser(), flags(world, tmp_path, **options))
        student_work.build_model(student, model_arguments)
