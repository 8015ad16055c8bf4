"""distill.py and train_teacher.py on data of several kinds, in one process and in two."""

import json

import pytest
import torch
from safetensors.torch import load_file

from m3se import DualEncoder, InputError, RankingConfig
from m3se.run_scripts import distill, train_teacher
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.work import distill as student_work
from m3se.trainers.data import RankingLists
from m3se.trainers.evaluation.metrics import reciprocal_rank
from m3se.trainers.teacher.calibration import calibrate
from tests.launch import launch
from tests.run_scripts.distilling import distilled, flags, write_world
from tests.worlds import tiny
from tests.worlds.small_world import write_collection, write_encoder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("distill"))


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
