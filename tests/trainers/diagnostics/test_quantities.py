import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.diagnostics.quantities import (
    agreement,
    auc,
    capacity,
    gradient_ratio,
    kendall_tau,
    normalised_margins,
    overlap_area,
    separation,
    split_scores,
)
from m3se.trainers.errors import InputError


SCORES = np.array([3.0, 1.0, 0.0, 2.0, 5.0])
LABELS = np.array([1.0, 0.0, 0.0, 0.0, 2.0])
ROWS = np.array([0, 0, 0, 1, 1])


def test_positives_and_negatives_raw_and_centred():
    positives, negatives = split_scores(SCORES, LABELS)
    assert (positives.tolist(), negatives.tolist()) == ([3.0, 5.0], [1.0, 0.0, 2.0])
    positives, negatives = split_scores(SCORES, LABELS, centred=True)  # the mean is 11/5
    assert positives == pytest.approx([0.8, 2.8])
    assert negatives == pytest.approx([-1.2, -2.2, -0.2])


def test_margins_by_hand_are_within_a_query_and_over_the_whole_range():
    # list 0: 3 − 1, 3 − 0; list 1: 5 − 2; ρ = 5 − 0
    assert normalised_margins(SCORES, LABELS, ROWS) == pytest.approx([2 / 5, 3 / 5, 3 / 5])
    assert len(normalised_margins(SCORES, np.zeros(5), ROWS)) == 0
    assert normalised_margins(np.ones(5), LABELS, ROWS).tolist() == [0, 0, 0]


def test_a_query_whose_documents_lie_apart_is_still_one_list():
    order = np.array([3, 0, 4, 2, 1])
    shuffled = normalised_margins(SCORES[order], LABELS[order], ROWS[order])
    assert sorted(shuffled) == pytest.approx([2 / 5, 3 / 5, 3 / 5])


def test_auc_by_hand_counts_a_tie_as_one_half():
    # pairs of (2, 3) with (1, 2, 2): 2 > 1, 2 = 2, 2 = 2, 3 above all three
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0, 2.0])) == pytest.approx((1 + 0.5 + 0.5 + 3) / 6)
    assert auc(np.ones(3), np.ones(4)) == 0.5
    assert math.isnan(auc(np.empty(0), np.ones(2)))


def test_overlap_by_hand():
    # bins of width 1 from 0 to 4: shares (.5 .5 0 0) and (0 .5 .25 .25)
    positives, negatives = np.array([0.0, 1.5]), np.array([1.2, 1.7, 2.5, 4.0])
    assert overlap_area(positives, negatives, bins=4) == pytest.approx(0.5)
    assert overlap_area(positives, positives) == pytest.approx(1.0)
    assert overlap_area(np.zeros(3), np.ones(5)) == 0.0


def test_samples_of_one_distribution_overlap_almost_entirely_however_different_their_sizes():
    draw = np.random.default_rng(0).normal
    found = [overlap_area(draw(size=60), draw(size=5000)) for _ in range(20)]
    assert np.mean(found) > 0.85
    # densities of N(0, 1) and N(2, 1) share 2 Φ(−1)
    shared = [overlap_area(draw(size=600), draw(2.0, size=5000)) for _ in range(20)]
    assert np.mean(shared) == pytest.approx(0.317, abs=0.03)


def test_separation_takes_auc_over_all_pairs_and_within_queries():
    # query 0 has its positive on top, query 1 below; over all: 1 > 0, 1 < 11, 10 > 0, 10 < 11
    scores, labels, rows = np.array([1.0, 0.0, 10.0, 11.0]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    found = separation(scores, labels, rows)
    assert (found.auc, found.auc_within, found.range) == (0.5, 0.5, 11.0)
    assert found.mean_margin == pytest.approx((1 - 1) / 2 / 11)


def test_a_shift_of_a_querys_scores_changes_auc_but_not_auc_within():
    scores, labels, rows = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    shifted = scores + np.array([0, 0, 100, 100])
    assert separation(scores, labels, rows).auc == separation(scores, labels, rows).auc_within == 1.0
    assert separation(shifted, labels, rows).auc == 0.75
    assert separation(shifted, labels, rows).auc_within == 1.0


def test_kendall_by_hand():
    # pairs of (1 2 3) with (1 3 2): two agree, one does not
    assert kendall_tau(np.array([1, 2, 3]), np.array([1, 3, 2])) == pytest.approx(1 / 3)
    # with a tie: 3 pairs in the first, 2 in the second, both agree
    assert kendall_tau(np.array([1, 2, 3]), np.array([1, 2, 2])) == pytest.approx(2 / math.sqrt(6))
    assert math.isnan(kendall_tau(np.array([1, 2]), np.array([5, 5])))
    assert math.isnan(kendall_tau(np.array([1]), np.array([5])))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_kendall_agrees_with_scipy(pairs):
    stats = pytest.importorskip("scipy.stats")
    first, second = np.array(pairs).T
    expected = stats.kendalltau(first, second).statistic
    assert kendall_tau(first, second) == pytest.approx(expected, nan_ok=True)


def test_agreement_by_hand():
    teacher = np.array([0.0, 2.0, 1.0, 3.0])
    student = np.array([10.0, 14.0, 13.0, 11.0])
    found = agreement(teacher, student, np.array([0, 0, 1, 1]))
    assert found.baseline_shift == pytest.approx(12.0 - 1.5)
    assert found.spread_ratio == pytest.approx(((2 + 1) / 2) / ((1 + 1) / 2))
    assert found.taus.tolist() == [1.0, -1.0]
    assert found.mean_tau == 0.0
    assert found.top_1 == 0.5


def test_a_teacher_without_spread_has_nothing_to_agree_with():
    with pytest.raises(InputError, match="same score"):
        agreement(np.ones(4), np.arange(4.0), np.array([0, 0, 1, 1]))


def test_a_student_without_spread_has_no_tau():
    found = agreement(np.arange(4.0), np.ones(4), np.array([0, 0, 1, 1]))
    assert (len(found.taus), found.mean_tau, found.spread_ratio) == (0, None, 0.0)


def test_capacity_of_a_matrix_of_known_singular_values():
    generator = np.random.default_rng(0)
    left, _ = np.linalg.qr(generator.normal(size=(12, 12)))
    right, _ = np.linalg.qr(generator.normal(size=(20, 12)))
    values = np.array([8.0, 4.0, 2.0, 1.0] + [0.0] * 8)
    found = capacity((left * values) @ right.T, ranks=(1, 2, 4, 16))
    assert found.rank == 4
    assert found.ranks == [1, 2, 4, 12]  # 16 is more than the matrix has
    assert found.singular_values[:4] == pytest.approx(values[:4])
    assert found.errors == pytest.approx([math.sqrt(21 / 85), math.sqrt(5 / 85), 0, 0], abs=1e-7)
    assert found.top_1[-1] == 1.0


def test_what_only_shifts_queries_needs_no_embedding_once_centred():
    shifts = np.array([[5.0], [-3.0], [1.0]])
    matrix = shifts + np.outer([1.0, 2.0, 3.0], [1.0, -1.0, 0.0, 0.0])
    found = capacity(matrix, ranks=(1, 2))
    assert found.centred_errors[0] == pytest.approx(0, abs=1e-7)
    assert found.errors[0] > 0.1
    assert found.sufficient(0.05) == 1
    assert found.sufficient(-1.0) is None


def test_no_dot_products_of_that_size_come_closer():
    matrix = np.random.default_rng(1).normal(size=(8, 10))
    found = capacity(matrix, ranks=(2,))
    for seed in range(20):  # alternating least squares from random starts
        left = np.random.default_rng(seed).normal(size=(8, 2))
        for _ in range(30):
            right = np.linalg.lstsq(left, matrix, rcond=None)[0]
            left = np.linalg.lstsq(right.T, matrix.T, rcond=None)[0].T
        assert np.linalg.norm(matrix - left @ right) / np.linalg.norm(matrix) >= found.errors[0] - 1e-9


def test_the_gradient_ratio_is_the_closed_form_and_tends_to_1():
    # τ (σ(s/τ) − σ(t/τ)) · 4 / (s − t)
    temperatures = np.array([0.5, 2.0, 1e4])
    sigmoid = 1 / (1 + np.exp(-np.array([[1.0], [4.0]]) / temperatures))
    expected = temperatures * (sigmoid[0] - sigmoid[1]) * 4 / (1.0 - 4.0)
    found = gradient_ratio(teacher_margin=4.0, student_margin=1.0, temperatures=temperatures)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[-1] == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(ValueError, match="no ratio"):
        gradient_ratio(2.0, 2.0, temperatures)
