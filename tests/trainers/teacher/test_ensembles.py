"""Means of teachers, with values by hand."""

import numpy as np
import pytest

from m3se import InputError
from m3se.trainers.teacher.ensembles import RAW_MEAN, STANDARDISED_MEAN, check_weights, combine, standardise


SIZES = np.array([3, 2])


def test_scores_on_one_scale_are_averaged_as_they_are():
    columns = [np.array([1, 2, 3, 4, 5], dtype=np.float32), np.array([3, 2, 1, 0, 5], dtype=np.float32)]
    means, combination = combine(columns, ["logit", "logit"], SIZES)
    np.testing.assert_array_equal(means, [2, 2, 2, 2, 5])
    assert combination == RAW_MEAN


def test_a_wide_scale_does_not_decide_alone():
    """Standardised, (0, 1, 2) and (200, 100, 0) are (-a, 0, a) and (a, 0, -a) with a = √1.5; (1, 3) is (-1, 1)."""
    narrow, wide = np.array([0.0, 1, 2, 1, 3]), np.array([200.0, 100, 0, 100, 300])
    means, combination = combine([narrow, wide], ["cosine", "dot"], SIZES)
    np.testing.assert_allclose(means, [0, 0, 0, -1, 1], atol=1e-6)
    assert combination == STANDARDISED_MEAN
    np.testing.assert_allclose(standardise(narrow, SIZES), [-np.sqrt(1.5), 0, np.sqrt(1.5), -1, 1])


def test_unknown_scores_stay_unknown_and_equal_ones_become_0():
    scores = np.array([1.0, np.nan, 3, 7, 7])
    np.testing.assert_array_equal(standardise(scores, SIZES), [-1, np.nan, 1, 0, 0])
    means, _ = combine([scores, np.zeros(5)], ["run", "logit"], SIZES)
    np.testing.assert_array_equal(means, np.array([-0.5, np.nan, 0.5, 0, 0]))


def test_a_weight_counts_a_teacher_so_many_times():
    columns = [np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 6, 7, 0, 9])]
    means, combination = combine(columns, ["logit", "logit"], SIZES, [3, 1])
    np.testing.assert_allclose(means, [2, 3, 4, 3, 6])
    assert combination == f"{RAW_MEAN}, weighted 3 : 1"
    narrow, wide = np.array([0.0, 1, 2, 1, 3]), np.array([200.0, 100, 0, 100, 300])
    means, combination = combine([narrow, wide], ["cosine", "dot"], SIZES, [3, 1])
    np.testing.assert_allclose(means, [-np.sqrt(1.5) / 2, 0, np.sqrt(1.5) / 2, -1, 1], atol=1e-6)
    assert combination == f"{STANDARDISED_MEAN}, weighted 3 : 1"


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("inf")], [1.0, float("nan")]])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(InputError, match="--teacher_weights: expected a number above 0 for each of 2 teachers"):
        check_weights(weights, 2)
    check_weights([], 2)
    check_weights([0.5, 2.0], 2)
