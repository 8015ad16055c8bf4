import itertools

import numpy as np
import pytest
from scipy import stats

from m3se.trainers.errors import InputError
from m3se.trainers.evaluation import significance
from m3se.trainers.evaluation.run_metrics import Evaluation
from m3se.trainers.evaluation.significance import bootstrap_interval, compare, holm, randomisation_test, share_interval


def test_the_p_value_is_near_that_of_all_permutations():
    first, second = np.array([0.9, 0.5, 1.0, 0.2, 0.7, 0.8]), np.array([0.5, 0.6, 0.3, 0.2, 0.5, 0.1])
    differences = first - second
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=6)]
    exact = np.mean([value >= abs(differences.sum()) - 1e-12 for value in sums])
    assert randomisation_test(first, second) == pytest.approx(exact, abs=0.015)
    assert randomisation_test(second, first) == pytest.approx(exact, abs=0.015)


def test_p_values_are_those_of_scipy_up_to_the_draw():
    generator = np.random.default_rng(11)
    for shift in (0.0, 0.1, 0.2):
        first, second = generator.normal(size=(2, 60)) + [[shift], [0.0]]
        expected = stats.permutation_test(
            (first - second,), np.mean, permutation_type="samples", n_resamples=10_000, vectorized=True, rng=generator
        )
        assert randomisation_test(first, second) == pytest.approx(expected.pvalue, abs=0.02)


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(12).choice([0, 0.1, 1 / 3, 1], 70)
    options = {"n_resamples": 10_000, "method": "percentile", "rng": np.random.default_rng(0)}
    expected = stats.bootstrap((values,), np.mean, **options)
    assert bootstrap_interval(values) == pytest.approx(tuple(expected.confidence_interval), rel=1e-12)
    # The numbers of published reports, drawn before scipy was used:
    assert bootstrap_interval(np.linspace(0, 1, 7) ** 2) == (0.12301587301587302, 0.6309523809523808)
    assert bootstrap_interval(np.array([0.5])) == (0.5, 0.5)


def test_equal_systems_have_p_1_and_a_clear_difference_the_smallest_p():
    values = np.linspace(0, 1, 50)
    assert randomisation_test(values, values) == 1.0
    assert randomisation_test(values + 0.1, values, permutations=999) == 1 / 1000


def test_p_values_are_uniform_when_there_is_no_difference():
    generator = np.random.default_rng(1)
    p_values = [
        randomisation_test(*generator.normal(size=(2, 40)), permutations=400, seed=seed) for seed in range(300)
    ]
    # 300 trials at 5%: 15 expected, standard deviation 3.8
    assert 3 <= sum(p <= 0.05 for p in p_values) <= 27
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_small_blocks_of_random_numbers_change_nothing(monkeypatch):
    first, second = np.random.default_rng(2).normal(size=(2, 30))
    whole = randomisation_test(first, second), bootstrap_interval(first)
    monkeypatch.setattr(significance, "DRAWS_PER_CALL", 999)
    assert randomisation_test(first, second) == pytest.approx(whole[0], abs=0.02)
    assert bootstrap_interval(first) == pytest.approx(whole[1], abs=0.05)


def test_holm_by_hand():
    # sorted .01 .02 .03 .04: ×4 = .04, ×3 = .06, ×2 = .06, ×1 = .04 → not below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_bootstrap_interval_has_the_width_of_the_normal_one():
    values = np.random.default_rng(3).normal(0.5, 0.2, size=400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.003)
    assert bootstrap_interval(np.full(10, 0.25)) == (0.25, 0.25)


def test_the_interval_of_a_share_is_that_of_the_ratio_of_paired_means():
    generator = np.random.default_rng(4)
    low = generator.normal(0.3, 0.1, size=900)
    high, value = low + generator.normal(0.2, 0.1, size=900), low + generator.normal(0.1, 0.1, size=900)
    found = share_interval(value, low, high)
    gained, gap = (value - low), (high - low)
    ratio = gained.mean() / gap.mean()
    half = 1.96 * (gained - ratio * gap).std() / (30 * gap.mean())  # the delta method
    assert found == pytest.approx((ratio - half, ratio + half), abs=0.01)
    assert share_interval(high, low, high) == (1.0, 1.0)


def test_a_gap_that_may_not_be_there_has_no_share():
    low = np.random.default_rng(5).normal(size=100)
    assert share_interval(low, low, np.random.default_rng(6).normal(size=100)) is None


def evaluation(values):
    per_query = {f"q{i}": {"MRR@10": value} for i, value in enumerate(values)}
    return Evaluation({"MRR@10": float(np.mean(values))}, per_query, ties=0)


def test_all_systems_are_compared_with_one_and_corrected_together():
    base, better, same = np.linspace(0, 0.5, 30), np.linspace(0.3, 0.8, 30), np.linspace(0, 0.5, 30)
    comparison = compare({n: evaluation(v) for n, v in (("a", base), ("b", better), ("c", same))}, "a")
    assert comparison.p_values == {"b": {"MRR@10": 2 / 10_001}, "c": {"MRR@10": 1.0}}
    assert set(comparison.intervals) == {"a", "b", "c"}
    assert compare({"a": evaluation(base)}, None).p_values == {}


def test_the_pairing_is_by_query_not_by_order():
    first = evaluation([0.0, 0.5, 1.0])
    turned = Evaluation(first.values, dict(reversed(first.per_query.items())), ties=0)
    assert compare({"a": first, "b": turned}, "a").p_values["b"]["MRR@10"] == 1.0


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="no system 'x' to compare with; there are a"):
        compare({"a": evaluation([1.0])}, "x")
    with pytest.raises(InputError, match="same queries"):
        compare({"a": evaluation([1.0]), "b": evaluation([1.0, 0.0])}, "a")
