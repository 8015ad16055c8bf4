import math

import numpy as np
import pytest

from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.teacher_gains import teacher_gains, teacher_ndcg
from tests.worlds import tiny


def scored_lists(*scores):
    lists = tiny.ranking_lists(queries=len(scores), documents=5)
    rows = []
    for number, values in enumerate(scores):
        ids = [f"d{place}" for place in range(len(values))]
        row = {"query_id": f"q{number}", "query": "red", "document_ids": ids, "labels": [0.0] * len(values)}
        rows.append(row | {"teacher_scores": values})
    lists.rows = type(lists.rows).from_list(rows)
    return lists


def test_gains_run_from_0_to_1_in_every_list():
    lists = teacher_gains(scored_lists([-3.0, 1.0, -1.0], [2.0, 2.0], [7.0, math.nan, 9.0], [math.nan, math.nan]))
    assert lists.rows["query_id"][:] == ["q0", "q2"]
    assert lists.rows["labels"][:] == [[0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]
    made = lists.report["lists"]
    assert (made["gains"], made["lists_dropped_without_order"]) == ("teacher scores, min-max per list", 2)
    with pytest.raises(InputError, match="none of 1 lists has two different scores"):
        teacher_gains(scored_lists([1.0, 1.0]))


def test_agreement_by_hand():
    lists = teacher_gains(scored_lists([-3.0, 1.0, -1.0], [0.0, 1.0]))
    # ranked d2, x, d1: gains .5, 0, 1; ideal 1, .5
    value = (0.5 + 1 / math.log2(4)) / (1 + 0.5 / math.log2(3))
    run = {"q0": {"d2": 5.0, "x": 4.0, "d1": 3.0}}
    assert teacher_ndcg(run, lists) == pytest.approx({"q0": value, "q1": 0.0})
    assert teacher_ndcg(run, lists, k=1)["q0"] == pytest.approx(0.5)
    alone = {"q0": {"d2": 5.0}}  # the ideal ranking is that of the whole list
    assert teacher_ndcg(alone, lists)["q0"] == pytest.approx(0.5 / (1 + 0.5 / math.log2(3)))
    assert teacher_ndcg({"q0": {"d0": 1.0, "d1": 1.0}}, lists, k=1)["q0"] == 0.0  # a tie counts against the run


def test_a_run_of_the_teachers_own_scores_agrees_fully():
    scores = np.random.default_rng(0).normal(size=(6, 5)).tolist()
    lists = teacher_gains(scored_lists(*scores))
    run = {}
    for number, values in enumerate(scores):
        run[f"q{number}"] = {f"d{place}": value for place, value in enumerate(values)}
    assert teacher_ndcg(run, lists) == pytest.approx(dict.fromkeys(run, 1.0))
    run["q0"] = {name: -score for name, score in run["q0"].items()}
    assert teacher_ndcg(run, lists)["q0"] < 0.99
