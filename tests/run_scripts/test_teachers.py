"""Teachers of every kind by the commands: folds, runs, language models, and several kinds at once."""

import json
import logging

import numpy as np
import pytest

from m3se import InputError
from m3se.run_scripts import evaluate, score_with_teacher, train_teacher
from m3se.run_scripts.cli.app import parse
from m3se.trainers.data import RankingLists
from m3se.trainers.evaluation.runs import read_run
from m3se.trainers.teacher.cross_fitting import fold_numbers
from m3se.trainers.teacher.ensembles import STANDARDISED_MEAN
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds import judges, tiny
from tests.worlds.small_world import write_encoder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    tiny.ranking_lists(queries=16, scored=False).save(root / "lists")
    write_encoder(root / "encoder")
    tiny.save_classifier(root / "teacher")
    return root


def train_folds(world, *more) -> None:
    options = {"layers": 1, "query_length": 8, "document_length": 16, "dev_queries": 0, "train_sample_size": 0}
    options |= {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no", "precision": "fp32"}
    options |= {"use_cpu": True, "loss": "softmax_ce", "disable_tqdm": True, "folds": 2}
    options |= {"data": world / "lists", "encoder": world / "encoder", "output_dir": world / "folds"}
    line = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    train_teacher.main(*parse(train_teacher.make_parser(), [*line, *more]))


def score(world, output, *flags) -> RankingLists:
    line = ["--data", str(world / "lists"), "--output", str(output), "--cache_dir", str(world / "cache")]
    (arguments,) = parse(score_with_teacher.make_parser(), [*line, "--dtype", "float32", *map(str, flags)])
    score_with_teacher.main(arguments)
    return RankingLists.load(output)


def test_each_fold_scores_the_queries_of_the_other(world, tmp_path, caplog):
    train_folds(world, "--fold", "1")
    with pytest.raises(InputError, match="fold-2 of 2 folds is not finished"):
        score(world, tmp_path / "early", "--teacher", world / "folds")
    with caplog.at_level(logging.INFO):
        train_folds(world)
    assert "fold-1: nothing has changed since it was trained; reused" in caplog.text
    lists = score(world, tmp_path / "scored", "--teacher", world / "folds")
    teachers = {fold: PairScorer.from_pretrained(world / "folds" / f"fold-{fold}", "float32") for fold in (1, 2)}
    for row, fold in zip(lists.rows, fold_numbers(lists.rows["query"][:], 2), strict=True):
        texts = lists.documents.texts(row["document_ids"])
        expected = teachers[3 - fold].score([row["query"]] * len(texts), texts)
        np.testing.assert_allclose(row["teacher_scores"], expected, atol=1e-5)
    flags = ["--model", world / "folds", "--candidates", world / "lists", "--output", tmp_path / "measured"]
    evaluate.main(*parse(evaluate.make_parser(), [*map(str, flags), "--dtype", "float32"]))
    run_ = read_run(tmp_path / "measured" / "run.trec")
    for row in lists.rows:
        measured = [run_[row["query_id"]][document] for document in row["document_ids"]]
        np.testing.assert_allclose(measured, row["teacher_scores"], atol=1e-5)
    caplog.clear()
    score(world, tmp_path / "own", "--teacher", world / "folds" / "fold-1")
    assert "fold-1 was trained on" in caplog.text


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--fold", "3"], "fold: expected one of 1 to 2"),
        (["--folds", "0"], "folds: expected at least 1"),
        (["--push_to_hub", "true"], "several teachers cannot be pushed to one repository"),
    ],
)
def test_folds_that_cannot_be_trained_are_refused(world, flags, message):
    with pytest.raises(InputError, match=message):
        train_folds(world, *flags)


def test_teachers_of_several_kinds_are_standardised(world, tmp_path):
    judge = judges.save_judge(tmp_path / "Qwen3-Reranker", "qwen3")
    run_ = tmp_path / "other.trec"
    rows = RankingLists.load(world / "lists").rows
    lines = []
    for row in rows:
        for rank, document in enumerate(row["document_ids"], start=1):
            lines.append(f"{row['query_id']} Q0 {document} {rank} {-rank} x\n")
    run_.write_text("".join(lines), encoding="utf-8")
    lists = score(world, tmp_path / "out", "--teacher", world / "teacher", judge, run_)
    for row in lists.rows:
        columns = np.array([row[f"teacher_scores_{number}"] for number in range(3)])
        np.testing.assert_array_equal(columns[2], -np.arange(1, len(row["labels"]) + 1))
        means, deviations = columns.mean(axis=1, keepdims=True), columns.std(axis=1, keepdims=True)
        np.testing.assert_allclose(row["teacher_scores"], ((columns - means) / deviations).mean(axis=0), atol=1e-5)
    calibration = json.loads((tmp_path / "out" / "calibration.json").read_text(encoding="utf-8"))
    assert calibration["combination"] == lists.report["teacher_combination"] == STANDARDISED_MEAN
    assert [teacher.get("kind") for teacher in lists.report["teachers"]] == [None, "judge", "run"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--teacher_template", "qwen3-reranker"], "--teacher_template is for language models; no --teacher is one"),
        (["--rank_targets", "linear"], "--rank_targets is for files of ranks; no --teacher is one"),
    ],
)
def test_options_for_other_kinds_are_refused(world, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        score(world, tmp_path / "out", "--teacher", world / "teacher", *flags)
