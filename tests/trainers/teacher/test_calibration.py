"""The calibration report against numbers by hand."""

import json
from math import exp, log, sqrt

import numpy as np
import pytest

from m3se.trainers.config import check_loss
from m3se.trainers.data import SCORED_ROW_FEATURES, DocumentTable, RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.teacher.calibration import calibrate
from m3se.trainers.teacher.temperature import describe_loss, describe_meanings, resolve_temperature


def make_lists(*rows):
    """Rows given as (labels, teacher scores)."""
    rows = [
        {
            "query_id": f"q{number}",
            "query": "",
            "document_ids": [f"d{i}" for i in range(len(labels))],
            "labels": labels,
            "teacher_scores": scores,
        }
        for number, (labels, scores) in enumerate(rows)
    ]
    return RankingLists(write_rows(rows, SCORED_ROW_FEATURES), DocumentTable.from_texts([], []))


def test_the_numbers_of_two_small_lists():
    found = calibrate(make_lists(([1, 0], [3.0, 1.0]), ([0, 1, 1], [4.0, 0.0, 2.0])))
    assert (found.queries, found.pairs, found.unknown, found.documents_per_query) == (2, 5, 0, 2.5)
    assert (found.mean, found.minimum, found.maximum) == (2.0, 0.0, 4.0)
    assert found.standard_deviation == pytest.approx(sqrt(2.0))
    assert found.spread == pytest.approx((1.0 + sqrt(8 / 3)) / 2)
    assert found.positive_mean == pytest.approx(5 / 3)
    assert found.negative_mean == 2.5
    assert found.mean_margin == pytest.approx((2.0 + (1.0 - 4.0)) / 2)
    assert found.top_is_positive == 0.5


def test_positives_and_negatives_are_compared_where_a_query_has_both():
    found = calibrate(make_lists(([1, 0], [3.0, 1.0]), ([0, 0], [50.0, 60.0]), ([1, 1], [70.0, 80.0])))
    assert (found.positive_mean, found.negative_mean, found.mean_margin, found.top_is_positive) == (3.0, 1.0, 2.0, 1.0)


def with_teachers(lists, **columns):
    """The lists with a column of scores for each named teacher."""
    rows = lists.rows
    for number, scores in enumerate(columns.values()):
        rows = rows.add_column(f"teacher_scores_{number}", scores)
    report = {"teachers": [{"name": name} for name in columns], "teacher_combination": "mean"}
    return RankingLists(rows, lists.documents, report)


def test_each_of_several_teachers_is_compared_with_the_labels_and_a_mean_that_is_worse_is_warned_of():
    lists = make_lists(([1, 0], [2.0, 1.0]), ([1, 0], [0.0, 1.0]), ([0, 0], [5.0, 6.0]))
    sure, weak = [[1.0, 0.0]] * 3, [[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]]
    found = calibrate(with_teachers(lists, sure=sure, weak=weak))
    assert (found.top_is_positive, found.alone) == (0.5, [["sure", 1.0], ["weak", 0.0]])
    lines = found.lines()
    assert "each alone: sure 100.0%, weak 0.0%" in lines
    assert lines[-1].startswith("warning: sure alone puts the labelled document first for 100.0% of the queries")
    assert "the mean for 50.0%" in lines[-1]
    assert json.loads(json.dumps(found.as_dict()))["alone"] == [["sure", 1.0], ["weak", 0.0]]


def test_a_teacher_is_compared_with_the_labels_where_the_mean_has_a_score():
    unknown = float("nan")  # of a run that lacks the last two queries, so that the mean has no score there
    lists = make_lists(([1, 0], [2.0, 1.0]), ([1, 0], [unknown] * 2), ([1, 0, 0], [unknown, 2.0, 1.0]))
    model, run = [[1.0, 0.0], [0.0, 1.0], [2.0, 1.0, 0.0]], [[1.0, 0.0], [unknown] * 2, [unknown, 1.0, 0.0]]
    found = calibrate(with_teachers(lists, model=model, run=run))
    assert (found.top_is_positive, found.alone) == (1.0, [["model", 1.0], ["run", 1.0]])


def test_a_mean_that_agrees_with_the_labels_as_often_as_its_best_teacher_is_not_warned_of():
    lists = make_lists(([1, 0], [2.0, 1.0]), ([1, 0], [0.0, 1.0]))
    half = [[1.0, 0.0], [0.0, 1.0]]
    assert calibrate(with_teachers(lists, one=half, two=half)).mean_warning() is None
    without_labels = make_lists(([0, 0], [2.0, 1.0]))
    found = calibrate(with_teachers(without_labels, one=half[:1], two=half[:1]))
    assert (found.alone, found.mean_warning()) == ([], None)


def test_softmax_targets_by_hand():
    found = calibrate(make_lists(([1, 0], [log(3.0), 0.0]), ([1, 0], [0.0, log(3.0)]))).targets
    entropy = -(0.75 * log(0.75) + 0.25 * log(0.25))
    assert found.temperature == 1.0
    assert found.top_probability == pytest.approx(0.75)
    assert found.effective_documents == pytest.approx(exp(entropy))


def test_the_suggested_temperature_is_half_the_spread_within_a_list():
    generator = np.random.default_rng(0)
    rows = [([1.0] + [0.0] * 7, generator.normal(scale=5.0, size=8).tolist()) for _ in range(50)]
    found = calibrate(make_lists(*rows))
    assert found.suggested.temperature == pytest.approx(np.mean([np.std(scores) for _, scores in rows]) / 2, rel=1e-5)
    scaled = [(labels, [score / found.suggested.temperature for score in scores]) for labels, scores in rows]
    assert calibrate(make_lists(*scaled)).spread == pytest.approx(2.0, rel=1e-5)
    assert calibrate(make_lists(*scaled)).targets.top_probability == pytest.approx(found.suggested.top_probability)


def test_equal_scores_do_not_put_the_positive_on_top():
    assert calibrate(make_lists(([1, 0], [1.0, 1.0]), ([1, 0], [2.0, 1.0]))).top_is_positive == 0.5


def test_nearly_one_hot_targets_are_warned_of_with_their_numbers():
    found = calibrate(make_lists(([1, 0], [20.0, 0.0]), ([1, 0], [0.0, 30.0])))
    assert "nearly one-hot: spread over 1.00 documents, the best has 1.000" in found.warning
    assert "teacher_temperature 6.25" in found.warning
    assert found.lines()[-1] == f"warning: {found.warning}"


def test_nearly_flat_targets_are_warned_of_with_their_numbers():
    found = calibrate(make_lists(([1, 0, 0, 0], [0.02, 0.01, 0.0, 0.0])))
    assert "nearly flat: spread over 4.00 of 4.0 documents" in found.warning


def test_targets_that_teach_are_not_warned_of():
    assert calibrate(make_lists(([1, 0, 0, 0], [3.0, 2.0, 1.0, 0.0]))).warning is None


def test_extreme_scores_stay_finite():
    found = calibrate(make_lists(([1, 0], [1e6, -1e6]), ([1, 0], [1e6, -1e6])))
    assert found.targets.effective_documents == 1.0
    assert found.suggested.top_probability == pytest.approx(1 / (1 + exp(-4.0)))


def test_lists_without_a_negative_or_a_positive_have_no_margin():
    found = calibrate(make_lists(([1, 1], [1.0, 2.0]), ([0, 0], [1.0, 2.0])))
    assert found.positive_mean is found.mean_margin is found.top_is_positive is None
    assert not any("positive" in line for line in found.lines())


def test_a_query_without_documents_is_left_out():
    assert calibrate(make_lists(([], []), ([1, 0], [2.0, 1.0]))).queries == 1


def test_the_report_is_plain_json():
    found = calibrate(make_lists(([1, 0], [3.0, 1.0])))
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == found.as_dict()


def test_a_constant_teacher_is_refused():
    with pytest.raises(InputError, match="all 4 teacher scores are 0.5"):
        calibrate(make_lists(([1, 0], [0.5, 0.5]), ([1, 0], [0.5, 0.5])))


def test_an_infinite_score_is_refused_with_its_query():
    with pytest.raises(InputError, match="query 'q1'"):
        calibrate(make_lists(([1, 0], [2.0, 1.0]), ([1, 0], [2.0, float("inf")])))


def test_unknown_scores_are_counted_and_left_out():
    nan = float("nan")
    found = calibrate(make_lists(([1, 0, 0], [3.0, nan, 1.0]), ([1, 0], [nan, nan]), ([1, 0], [nan, 5.0])))
    assert (found.queries, found.pairs, found.unknown, found.mean) == (2, 3, 4, 3.0)
    assert (found.mean_margin, found.top_is_positive) == (2.0, 1.0)
    assert "4 more pairs have no known score and are left out here" in found.lines()
    with pytest.raises(InputError, match="no document with a teacher score .* .2 without"):
        calibrate(make_lists(([1, 0], [nan, nan])))


def test_lists_without_scores_are_refused():
    lists = make_lists(([1, 0], [2.0, 1.0]))
    lists.rows = lists.rows.remove_columns("teacher_scores")
    with pytest.raises(InputError, match="no teacher scores"):
        calibrate(lists)


def test_lists_without_documents_are_refused():
    with pytest.raises(InputError, match="no document"):
        calibrate(make_lists(([], [])))


def lists_of_two(*margins):
    return make_lists(*(([1, 0], [margin, 0.0]) for margin in margins))


def test_auto_takes_the_temperature_that_gives_the_best_document_its_share():
    """Of two documents with scores m and 0 the first has 1 / (1 + exp(-m / T)): .6 at T = m / log 1.5."""
    found = calibrate(lists_of_two(3.0, 3.0)).auto
    assert found.temperature == pytest.approx(3 / log(1.5))
    assert found.top_probability == pytest.approx(0.6)
    arguments = resolve_temperature({"teacher_temperature": "auto", "temperature": 2.0}, lists_of_two(3.0, 3.0))
    assert arguments == {"teacher_temperature": found.temperature, "temperature": 2.0}
    assert resolve_temperature({"teacher_temperature": 5}, lists_of_two(3.0)) == {"teacher_temperature": 5}


@pytest.mark.parametrize("value, odds", [("auto .9", 9.0), ("auto 0.75", 3.0)])
def test_auto_takes_the_share_that_it_is_asked_for(value, odds):
    check_loss("softmax_distillation", {"teacher_temperature": value})
    arguments = resolve_temperature({"teacher_temperature": value}, lists_of_two(3.0, 3.0))
    assert arguments["teacher_temperature"] == pytest.approx(3 / log(odds))


@pytest.mark.parametrize("value", ["auto 1", "auto 0", "auto x", "auto .5 .5", "warm .5"])
def test_a_share_that_no_softmax_has_is_refused(value):
    with pytest.raises(InputError, match="teacher_temperature: expected auto, auto SHARE or a number above 0"):
        check_loss("softmax_distillation", {"teacher_temperature": value})


def test_lists_of_one_known_score_do_not_move_the_temperature():
    single = make_lists(([1, 0], [3.0, 0.0]), ([1, 0], [70.0, float("nan")]))
    assert calibrate(single).auto.temperature == pytest.approx(3 / log(1.5))


def test_the_share_is_an_average_over_lists_of_any_length():
    generator = np.random.default_rng(0)
    rows = [generator.normal(scale=4.0, size=size).tolist() for size in (2, 5, 9, 20)]
    temperature = calibrate(make_lists(*(([1.0] * len(scores), scores) for scores in rows))).auto.temperature
    shares = []
    for scores in rows:
        weights = np.exp(np.array(scores) / temperature)
        shares.append(weights.max() / weights.sum())
    assert np.mean(shares) == pytest.approx(0.6, abs=1e-6)


def test_scores_without_such_a_temperature_are_refused():
    ties = make_lists(([1, 0, 0], [1.0, 1.0, 0.0]), ([1, 0, 0], [2.0, 2.0, 0.0]))  # the best two share: 1/2 at most
    assert calibrate(ties).auto is None
    with pytest.raises(InputError, match="no temperature gives the best document 0.6 of the softmax"):
        resolve_temperature({"teacher_temperature": "auto"}, ties)


def test_losses_that_read_the_same_of_a_teacher_share_a_line():
    names = [line.split(": ")[0] for line in describe_meanings(calibrate(lists_of_two(log(9.0), log(9.0))))]
    assert names == ["mse, rankdistil_b", "margin_mse, m3se", "softmax_distillation"]


def test_the_report_says_what_the_scores_mean_for_the_loss_in_use():
    lists = lists_of_two(log(9.0), log(9.0))  # the best document has .9 at temperature 1, .75 at 2
    at_2 = describe_loss(lists, "softmax_distillation", {"teacher_temperature": 2})
    assert at_2.startswith("softmax_distillation: at teacher_temperature 2 the best document has 0.75")
    assert "auto takes 5.42, where it has 0.6" in at_2
    assert "the best document has 0.90" in describe_loss(lists, "softmax_distillation", {})
    assert "the teacher's margins, 2.2 on average; score_scale auto" in describe_loss(lists, "m3se", {})
    assert "scores themselves, 1.1 on average, from 0 to 2.2" in describe_loss(lists, "mse", {})
    assert "needs lists with a positive and a negative" in describe_loss(
        make_lists(([1, 1], [1, 0])), "margin_mse", {}
    )
