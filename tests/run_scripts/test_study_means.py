"""Rows of a study that are the mean of others' rankings."""

from dataclasses import replace

import pytest

from m3se import InputError
from m3se.run_scripts.reproduction.cost import START_SECONDS, seconds
from m3se.run_scripts.reproduction.study import read_study
from m3se.run_scripts.reproduction.teaching import learned_from
from m3se.run_scripts.work.reproduce import plan
from tests.run_scripts.study_world import add_rows, finish, planner_of, write_recipes


@pytest.fixture
def planner(tmp_path):
    return planner_of(write_recipes(tmp_path), tmp_path / "out")


MEAN_ROWS = {
    "mean": {"model": "mean", "mean_of": {"BM25": 3, "CA": 2, "one-hot": 1}},
    "first": {"model": "m3se", "scored_by": "mean"},
}


def test_a_mean_of_rankings_may_score_the_lists_of_a_row_and_is_measured(planner):
    rows = add_rows(planner, MEAN_ROWS)
    for _, trial in planner.trials("m3se", 0) + planner.trials("one_hot", 0):
        finish(trial, 0.3)
    study = read_study("losses", planner.scale)
    study.columns["retrieval MRR@10"] = None
    members = tuple(planner.training(rows[name], 1, 0) for name in ("CA", "one-hot"))
    folders = [str(member.folder) for member in members]
    lists = planner.training(rows["first"], 1, 0).lists
    assert (lists.needs, lists.options["teacher"]) == (members, [*folders, "bm25"])
    assert lists.options["teacher_weights"] == [2, 1, 3]
    measured = planner.measured(study, rows["mean"], 1, 0)
    assert list(measured.evaluations) == ["rerank"]  # a mean finds nothing in a collection
    rerank = measured.evaluations["rerank"]
    assert (rerank.needs, rerank.options["model"]) == (members, folders)
    assert (rerank.options["name"], rerank.options["mean_weights"]) == (["1", "2"], [3, 2, 1])
    assert (measured.first(), measured.system) == ([*members, rerank], "mean")
    assert learned_from(rows["mean"], planner, 1) is None
    alone, both = (seconds(planner.evaluation("rerank", jobs, {}), planner.scale) for jobs in (members[:1], members))
    assert both - START_SECONDS == pytest.approx(2 * (alone - START_SECONDS))
    jobs = plan([study], planner, [1])
    names = [job.name for job in jobs]
    for job in jobs:
        assert all(names.index(need.name) < names.index(job.name) for need in job.needs)


def test_other_weights_are_another_mean(planner):
    rows = add_rows(planner, MEAN_ROWS)
    planner.scale = replace(planner.scale, selection=None)
    names = set()
    for mean_of in ({"CA": 2, "one-hot": 1}, {"CA": 1, "one-hot": 1}, {"CA": 2, "one-hot": 1, "BM25": 1}):
        rows["mean"].mean_of = mean_of
        names.add(planner.training(rows["first"], 0, 0).name)
    assert len(names) == 3


@pytest.mark.parametrize(
    "row, message",
    [
        ({"model": "mean"}, "goes with model mean"),
        ({"model": "m3se", "mean_of": {"CA": 1}}, "goes with model mean"),
        ({"model": "mean", "mean_of": {"CA": 1, "nobody": 1}}, "got 'nobody'"),
        ({"model": "mean", "mean_of": {"CA": 1, "wrong": 1}}, "got 'wrong'"),
        ({"model": "m3se", "scored_by": "CA"}, "expected the row of a student"),
    ],
)
def test_means_that_cannot_be_made_are_refused(planner, row, message):
    with pytest.raises(InputError, match=message):
        add_rows(planner, {"wrong": row})


def test_a_student_cannot_go_on_from_a_mean(planner):
    with pytest.raises(InputError, match=r"starts_from: expected the row of a student, got 'mean'"):
        add_rows(planner, MEAN_ROWS | {"second": {"model": "m3se", "starts_from": "mean"}})
