"""What a study predicted, what came out, and what its teacher had to teach."""

import json
import logging
from dataclasses import replace

import pytest

from m3se import InputError
from m3se.run_scripts.reproduction.predictions import outcomes, prediction_table
from m3se.run_scripts.reproduction.rows import Row
from m3se.run_scripts.reproduction.study import Prediction, Study, read_scale, read_study
from m3se.run_scripts.reproduction.teaching import RoomReport, describe_lists, find_room, list_table
from m3se.trainers.evaluation.run_metrics import Evaluation
from tests.run_scripts.study_world import STUDY, planner_of, write_recipes


CALIBRATION = {
    "queries": 1500,
    "documents_per_query": 8.0,
    "top_is_positive": 0.875,
    "targets": {"temperature": 1.0, "top_probability": 0.75, "effective_documents": 1.5},
}


def measured(values: list[float]) -> Evaluation:
    return Evaluation({"MRR@10": 0.0}, {f"q{place}": {"MRR@10": value} for place, value in enumerate(values)}, 0)


def predicting(*predictions: Prediction) -> Study:
    return Study("x", "X", {}, {"rerank MRR@10": None}, predictions=list(predictions))


def test_predictions_may_be_about_another_column_than_the_first():
    study = replace(predicting(Prediction("a is above b", ["a"], ["b"])), outcome="held_out nDCG@10")
    study.columns["held_out nDCG@10"] = None
    values = {"a": {"MRR@10": 0.0, "nDCG@10": 0.75}, "b": {"MRR@10": 0.5, "nDCG@10": 0.5}}
    evaluations = {name: Evaluation({}, dict.fromkeys(map(str, range(8)), row), 0) for name, row in values.items()}
    assert outcomes(study, evaluations)[0]["value"] == 0.25


def test_predictions_are_about_a_column_of_the_study(planner):
    path = planner.scale.recipes / "losses" / "study.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "outcome: held_out MRR@10\n", encoding="utf-8")
    with pytest.raises(InputError, match="outcome: scale small has no column 'held_out MRR@10'"):
        read_study("losses", planner.scale)


def test_a_prediction_is_a_sum_of_rows_less_another_with_its_test():
    study = predicting(
        Prediction("a is above b", ["a"], ["b"]),
        Prediction("b is above a", ["b"], ["a"]),
        Prediction("a gains as much as b", ["a", "d"], ["c", "b"]),
        Prediction("a is above e", ["a"], ["e"]),
    )
    rows = {"a": [0.75] * 8, "b": [0.5] * 8, "c": [0.5] * 4 + [0.25] * 4, "d": [0.25] * 4 + [0.0] * 4}
    found = outcomes(study, {name: measured(values) for name, values in rows.items()})
    assert [entry["outcome"] for entry in found] == ["held", "the opposite", "not told apart", "not run"]
    assert [entry["value"] for entry in found[:3]] == [0.25, -0.25, 0.0]  # .75 + .25 − .5 − .5, .75 + 0 − .25 − .5
    assert found[0]["interval_95"] == pytest.approx((0.25, 0.25))
    # of 2⁸ signs two are as extreme as all equal; the smallest of three p-values is tripled
    assert found[0]["p_value"] == pytest.approx(3 * 2 / 256, abs=0.005)
    assert found[2]["p_value"] == 1.0
    text = prediction_table({"predictions": found, "predicted_column": "rerank MRR@10"})
    assert "| a gains as much as b | (a + d) − (c + b) | +0.0000 [+0.000, +0.000] |" in text
    assert "| a is above e | (a) − (e) | – | – | not run |" in text


def test_a_prediction_about_a_row_that_a_scale_lacks_is_left_out(tmp_path):
    recipes = write_recipes(tmp_path)
    predictions = [
        {"text": "M3SE helps", "above": ["M3SE"], "below": ["one-hot"]},
        {"text": "other", "above": ["M3SE"], "below": ["nothing"]},
    ]
    (recipes / "losses" / "study.yaml").write_text(json.dumps(STUDY | {"predictions": predictions}))
    study = read_study("losses", read_scale("small", recipes))
    assert study.predictions == [Prediction(**predictions[0])]


@pytest.fixture
def planner(tmp_path):
    planner = planner_of(write_recipes(tmp_path), tmp_path / "out")
    planner.scale.room, planner.scale.selection = 0.05, None
    return planner


def train(job, dev: float) -> None:
    """What a training leaves behind, as far as the room is read from it."""
    for folder in job.folders():
        folder.mkdir(parents=True)
        record = {"log_history": [{"step": 1, "eval_MRR@10": dev}]}
        (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
        dev += 0.125


def test_the_room_is_said_once_and_as_a_warning_where_it_is_too_small(planner, caplog):
    study = read_study("losses", planner.scale)
    report = RoomReport([study], planner, 0)
    report.log()
    train(planner.teacher({}), 0.5)
    report.log()
    assert find_room(study, planner, 0) is None and caplog.records == []
    train(planner.training(study.rows["one-hot"], 0, 0), 0.46875)
    report.log()
    report.log()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "on 2 dev queries the teacher has MRR@10 0.5000, the student of labels 0.4688" in record.message
    assert "+0.0312, where +0.05 or more is wanted: too little" in record.message


def test_the_row_of_labels_may_be_another_one_than_the_baseline(planner):
    study = replace(read_study("losses", planner.scale), baseline="M3SE", labels="one-hot")
    train(planner.teacher({}), 0.5)
    train(planner.training(study.rows["M3SE"], 0, 0), 0.375)
    assert find_room(study, planner, 0) is None
    train(planner.training(study.rows["one-hot"], 0, 0), 0.25)
    assert find_room(study, planner, 0)["room"] == 0.25


def test_folds_are_a_teacher_when_all_of_them_are_trained(planner):
    planner.scale.teacher.set["folds"] = 2
    study = read_study("losses", planner.scale)
    teacher = planner.teacher({})
    assert [folder.name for folder in teacher.folders()] == ["fold-1", "fold-2"]
    train(planner.training(study.rows["one-hot"], 0, 0), 0.5)
    train(teacher, 0.5)
    assert teacher.done
    assert find_room(study, planner, 0)["room"] == pytest.approx(0.0625)  # the mean of .5 and .625 less .5
    (teacher.folders()[1] / "training.json").unlink()
    assert not teacher.done


def test_no_room_is_wanted_or_known_without_the_same_dev_lists(planner):
    study = read_study("losses", planner.scale)
    train(planner.teacher({}), 0.5)
    train(planner.training(study.rows["one-hot"], 0, 0), 0.25)
    assert find_room(study, planner, 0)["room"] == 0.25
    planner.scale.students["one_hot"].set["dev_depth"] = 7
    train(planner.training(study.rows["one-hot"], 0, 0), 0.25)
    assert find_room(study, planner, 0) is None
    planner.scale.room = None
    del planner.scale.students["one_hot"].set["dev_depth"]
    assert find_room(study, planner, 0) is None


def test_rows_that_learned_from_the_same_lists_share_a_line(planner):
    study = read_study("losses", planner.scale)
    study.rows["longer"] = Row("longer", "longer", "m3se", lists={"documents_per_query": 6})
    (job,) = planner.training(study.rows["M3SE"], 0, 0).needs
    job.folder.mkdir(parents=True)
    (job.folder / "calibration.json").write_text(json.dumps(CALIBRATION), encoding="utf-8")
    described = describe_lists(study, planner, 0)
    assert described.keys() == {"one-hot", "M3SE"}
    assert "| one-hot, M3SE | 1,500 | 8.0 | 87.5% | 0.750 | 1.50 |" in list_table({"lists": described})
