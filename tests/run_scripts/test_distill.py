"""distill.py in this process, and once in two: what its options make of the folder it writes."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from m3se import ColBERT, CrossEncoder, DualEncoder, InputError, RankingConfig, load_scorer
from m3se.run_scripts import distill, train_teacher
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.work import distill as student_work
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.evaluation.metrics import reciprocal_rank
from m3se.trainers.run_folder import KEY
from m3se.trainers.teacher.calibration import calibrate
from tests.launch import launch
from tests.worlds import tiny
from tests.worlds.small_world import write_collection, write_encoder


KINDS = {"dual_encoder": DualEncoder, "colbert": ColBERT, "cross_encoder": CrossEncoder}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("distill")
    tiny.ranking_lists(queries=16).save(root / "lists")
    write_encoder(root / "encoder")
    return root


def flags(world: Path, output: Path, **options) -> list[str]:
    options = {
        "data": world / "lists",
        "encoder": world / "encoder",
        "layers": 1,
        "query_length": 8,
        "document_length": 16,
        "dev_queries": 0,
        "train_sample_size": 0,
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "precision": "fp32",
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": output,
    } | options
    return [part for name, value in options.items() for part in (f"--{name}", *map(str, as_list(value)))]


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def distilled(world: Path, output: Path, **options) -> Path:
    distill.main(*parse(distill.make_parser(), flags(world, output, **options)))
    return output


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


def dense_model(world: Path, folder: Path, pooling: str) -> Path:
    """The encoder as a sentence-transformers model that pools by `pooling`."""
    shutil.copytree(world / "encoder", folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}), encoding="utf-8")
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return folder


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
    with pytest.raises(InputError, match="holds a run with another options"):
        distilled(world, output, query_prompt="salt ")


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
        ({"layers": 4}, "layers must be 1 to 3 for .*, got 4"),
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


def test_teacher_and_student_may_have_different_tokenisers(world, tmp_path):
    """The scores come with the lists: only the student's tokeniser is asked for."""
    encoder = write_encoder(tmp_path / "other")
    tiny.tokenizer(list(reversed(tiny.WORDS))).save_pretrained(encoder)
    output = distilled(world, tmp_path / "student", encoder=encoder)
    vocabulary = json.loads((output / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert vocabulary[tiny.WORDS[0]] == max(vocabulary[word] for word in tiny.WORDS)


def be_distill(line: list[str]) -> None:
    distill.main(*parse(distill.make_parser(), line))


@pytest.mark.linux
def test_two_processes_write_what_one_does_with_the_same_global_batch(world, tmp_path):
    options = {"loss": "m3se", "in_batch_negatives": True, "dropout": 0.0, "embedding_dropout": 0.0, "optim": "sgd"}
    one = distilled(world, tmp_path / "one", **options)
    line = flags(world, tmp_path / "two", **options | {"per_device_train_batch_size": 4})
    launch(be_distill, line)
    two = tmp_path / "two"
    assert json.loads((two / "training.json").read_text(encoding="utf-8"))["world_size"] == 2
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=1e-5, rtol=1e-4)


def test_the_teachers_folder_says_what_of_its_data_was_left_out(world, tmp_path):
    data = write_collection(tmp_path / "words")
    for split in ("train", "dev"):
        judgments = data / "qrels" / f"{split}.tsv"
        line = judgments.read_text(encoding="utf-8").splitlines()[1]
        with open(judgments, "a", encoding="utf-8") as file:
            file.write(f"{line.split()[0]}\tabsent\t1\n")
    options = {"data": data, "documents_per_query": 4, "depth": 10, "loss": "softmax_ce", "cache_dir": tmp_path / "c"}
    line = flags(world, tmp_path / "teacher", **options, dev_queries=4, max_steps=1)
    with pytest.raises(InputError, match=r"the judgments name 1 documents .* \(absent\); --allow_missing true"):
        train_teacher.main(*parse(train_teacher.make_parser(), line))
    train_teacher.main(*parse(train_teacher.make_parser(), [*line, "--allow_missing", "true"]))
    report = json.loads((tmp_path / "teacher" / "data_report.json").read_text(encoding="utf-8"))
    for split, lists in (("train", 12), ("dev", 4)):
        assert report[split]["lists"]["rows"] == lists
        assert report[split]["collection"]["judgments_dropped_of_unknown_documents"] == 1


def test_dev_lists_of_a_folder_are_measured_as_they_are(world, tmp_path):
    dev = tiny.ranking_lists(queries=5, seed=7)
    dev.save(tmp_path / "dev")
    options = {"dev_data": tmp_path / "dev", "dev_queries": 3, "eval_strategy": "steps", "eval_steps": 1}
    output = distilled(world, tmp_path / "student", **options)
    record = json.loads((output / "training.json").read_text())
    assert record["evaluated_on"]["dev"] == 3
    model = DualEncoder.from_pretrained(output).eval()
    batch = tiny.batch(dev.first(3))
    with torch.no_grad():
        scores = model(**tiny.model_inputs(batch)).scores
    expected = float(reciprocal_rank(scores, batch["labels"], batch["mask"]).mean())
    measured = [entry["eval_MRR@10"] for entry in record["log_history"] if "eval_MRR@10" in entry]
    assert measured[-1] == pytest.approx(expected, abs=1e-6)


def test_a_teacher_is_trained_on_the_lists_of_a_folder(world, tmp_path):
    options = flags(world, tmp_path / "teacher", loss="softmax_ce", train_queries=4)
    train_teacher.main(*parse(train_teacher.make_parser(), options))
    report = json.loads((tmp_path / "teacher" / "data_report.json").read_text())
    assert report["train"] == RankingLists.load(world / "lists").report
    assert json.loads((tmp_path / "teacher" / "training.json").read_text())["data"]["queries"] == 4


def test_an_automatic_temperature_is_a_number_in_the_record(world, tmp_path, caplog):
    arguments = json.dumps({"teacher_temperature": "auto"})
    record = json.loads((distilled(world, tmp_path / "auto", loss_args=arguments) / "training.json").read_text())
    temperature = calibrate(RankingLists.load(world / "lists")).auto.temperature
    assert record["loss_args"] == {"teacher_temperature": temperature}
    same = distilled(world, tmp_path / "same", loss_args=json.dumps({"teacher_temperature": temperature}))
    weights = [load_file(folder / "model.safetensors") for folder in (tmp_path / "auto", same)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=0, rtol=0)
    with caplog.at_level("INFO"):
        distilled(world, tmp_path / "auto", loss_args=arguments)
    assert "nothing has changed since it was trained; reused" in caplog.text


def test_lists_that_the_loss_cannot_use_are_said_before_training(tmp_path, caplog):
    lists = tiny.ranking_lists(queries=8)
    labels = lists.rows["labels"][:]
    for row in range(6):
        labels[row] = [0.0] * len(labels[row])
    lists.rows = lists.rows.remove_columns("labels").add_column("labels", labels)
    config = RankingConfig(output_dir=str(tmp_path), loss="softmax_ce", report_to="none")
    assert student_work.check_usable(lists, config, "log") is lists
    assert "6 of 8 lists have no positive, and softmax_ce learns nothing from 6; score_with_teacher.py" in caplog.text
    caplog.clear()
    student_work.check_usable(lists, RankingConfig(output_dir=str(tmp_path), report_to="none"), "log")
    assert not caplog.text  # the softmax of the teacher's scores needs no positive
    lists.rows = lists.rows.select(range(6))
    with pytest.raises(InputError, match="log: softmax_ce learns nothing from any of 6 lists, of which 6 have no"):
        student_work.check_usable(lists, config, "log")
