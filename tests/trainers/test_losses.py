"""Laws of the losses (docs/losses.md): what may change a value or gradient, and what may not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.modeling.scoring import ScoreScale
from m3se.trainers.losses import LOSSES, NEEDS_TEACHER, usable_queries
from m3se.trainers.options import COMPARE_NUMBERS
from tests.trainers.loss_cases import LABELS, VARIANTS, Case, cases


SHIFT_INVARIANT = {"softmax_ce", "margin_mse", "m3se", "softmax_distillation", "focal"}
SETTINGS = settings(deadline=None, max_examples=20)  # for each of 13 variants
every_variant = pytest.mark.parametrize(("name", "hyperparameters"), VARIANTS, ids=str)


def value_and_gradient(name, case, **hyperparameters):
    scores = case.scores.clone().requires_grad_()
    loss = LOSSES[name](scores, *case[1:], **hyperparameters)
    loss.backward()
    return loss.detach(), scores.grad


def hyperparameters_of(name):
    return [arguments for variant, arguments in VARIANTS if variant == name]


@every_variant
@given(case=cases())
@SETTINGS
def test_gradient_matches_finite_differences(name, hyperparameters, case):
    loss = lambda scores: LOSSES[name](scores, *case[1:], **hyperparameters)  # noqa: E731
    assert torch.autograd.gradcheck(loss, case.scores.clone().requires_grad_(), eps=1e-6, atol=1e-6)


@every_variant
@given(case=cases())
@SETTINGS
def test_order_of_documents_does_not_matter(name, hyperparameters, case):
    order = case.scores[0].argsort()  # any order will do
    value, gradient = value_and_gradient(name, case, **hyperparameters)
    permuted_value, permuted_gradient = value_and_gradient(
        name, Case(*(part[:, order] for part in case)), **hyperparameters
    )
    torch.testing.assert_close(permuted_value, value)
    torch.testing.assert_close(permuted_gradient, gradient[:, order])


@every_variant
@given(case=cases(), garbage=st.sampled_from([1e30, float("nan"), float("inf"), float("-inf")]))
@SETTINGS
def test_masked_entries_change_nothing_whatever_they_hold(name, hyperparameters, case, garbage):
    value, gradient = value_and_gradient(name, case, **hyperparameters)
    filled = [part.masked_fill(~case.mask, garbage) for part in case[:3]]
    column = torch.full_like(case.scores[:, :1], garbage)
    wider = Case(*(torch.cat([part, column], dim=1) for part in filled), torch.nn.functional.pad(case.mask, (0, 1)))
    wider_value, wider_gradient = value_and_gradient(name, wider, **hyperparameters)
    torch.testing.assert_close(wider_value, value)
    torch.testing.assert_close(wider_gradient, torch.nn.functional.pad(gradient, (0, 1)))
    assert (gradient[~case.mask] == 0).all()


@every_variant
@given(case=cases())
@SETTINGS
def test_masking_a_document_is_leaving_it_out(name, hyperparameters, case):
    row = Case(*(part[:1] for part in case))
    kept = Case(*(part[row.mask][None] for part in row))
    if kept.scores.numel():
        torch.testing.assert_close(
            value_and_gradient(name, row, **hyperparameters)[0], value_and_gradient(name, kept, **hyperparameters)[0]
        )


@every_variant
@given(case=cases())
@SETTINGS
def test_value_is_the_mean_over_queries(name, hyperparameters, case):
    alone = [Case(*(part[i : i + 1] for part in case)) for i in range(len(case.scores))]
    values, gradients = zip(*(value_and_gradient(name, query, **hyperparameters) for query in alone), strict=True)
    value, gradient = value_and_gradient(name, case, **hyperparameters)
    torch.testing.assert_close(value, torch.stack(values).mean())
    torch.testing.assert_close(gradient, torch.cat(gradients) / len(alone))


@pytest.mark.parametrize("name", sorted(SHIFT_INVARIANT))
@given(case=cases())
@SETTINGS
def test_a_shift_of_a_querys_scores_changes_nothing(name, case):
    shift = 100 * case.scores[:, :1].sin()  # another for each query
    for hyperparameters in hyperparameters_of(name):
        value, gradient = value_and_gradient(name, case, **hyperparameters)
        shifted_value, shifted_gradient = value_and_gradient(
            name, case._replace(scores=case.scores + shift), **hyperparameters
        )
        torch.testing.assert_close(shifted_value, value)
        torch.testing.assert_close(shifted_gradient, gradient)


@pytest.mark.parametrize("name", sorted(SHIFT_INVARIANT & NEEDS_TEACHER))
@given(case=cases())
@SETTINGS
def test_a_shift_of_the_teachers_scores_changes_nothing(name, case):
    shift = 100 * case.scores[:, :1].sin()  # another for each query
    shifted = case._replace(teacher_scores=case.teacher_scores + shift)
    for before, after in zip(value_and_gradient(name, case), value_and_gradient(name, shifted), strict=True):
        torch.testing.assert_close(after, before)


@pytest.mark.parametrize("name", ["mse", "rankdistil_b"])
def test_losses_of_raw_scores_do_change_with_a_shift(name):
    case = Case(*torch.tensor([[[1.0, 2.0]], [[1.0, -2.0]], [[1.0, 0.0]]]), torch.ones(1, 2, dtype=torch.bool))
    value, _ = value_and_gradient(name, case)
    shifted, _ = value_and_gradient(name, case._replace(scores=case.scores + 10))
    assert shifted > value + 1


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [("mse", {}), ("margin_mse", {}), ("m3se", {"hinge_power": 2}), ("rankdistil_b", {})],
    ids=str,
)
@given(case=cases(), ratio=st.sampled_from([0.25, 3.0, 40.0]))
@SETTINGS
def test_dividing_the_teachers_scores_is_multiplying_the_students_up_to_the_squared_ratio(
    name, hyperparameters, case, ratio
):
    """The two ways of `score_scale`: L(s, t / c) = L(c s, t) / c², and the gradient in s is L'(c s, t) / c."""
    divided = case._replace(teacher_scores=case.teacher_scores / ratio)
    value, gradient = value_and_gradient(name, divided, **hyperparameters)
    multiplied, slope = value_and_gradient(name, case._replace(scores=case.scores * ratio), **hyperparameters)
    torch.testing.assert_close(value, multiplied / ratio**2)
    torch.testing.assert_close(gradient, slope / ratio)


@pytest.mark.parametrize("name", COMPARE_NUMBERS)
@given(case=cases())
@SETTINGS
def test_the_gradient_of_a_learned_scale_matches_finite_differences(name, case):
    scale = ScoreScale(2.0, learned=True).double()

    def loss(scores, logarithm):
        weight = logarithm + (logarithm / 100 - logarithm).detach()  # its gradient is that of the logarithm
        return LOSSES[name](torch.func.functional_call(scale, {"weight": weight}, scores), *case[1:])

    inputs = case.scores.clone().requires_grad_(), torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-7, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [
        ("mse", {}),
        ("margin_mse", {}),
        ("m3se", {}),
        ("m3se", {"hinge_power": 2}),
        ("rankdistil_b", {"gamma0": 1e3}),  # no negative above the threshold
    ],
    ids=str,
)
@given(case=cases(unknown=False), ties=st.booleans())
@SETTINGS
def test_a_student_that_equals_its_teacher_has_no_loss(name, hyperparameters, case, ties):
    teacher_scores = case.teacher_scores.sign() if ties else case.teacher_scores
    equal = case._replace(scores=teacher_scores, teacher_scores=teacher_scores)
    value, gradient = value_and_gradient(name, equal, **hyperparameters)
    assert value == 0
    assert (gradient == 0).all()


@given(case=cases(unknown=False))
@SETTINGS
def test_softmax_distillation_has_no_gradient_at_the_teacher(case):
    _, gradient = value_and_gradient(
        "softmax_distillation", case._replace(scores=case.teacher_scores), temperature=2.0
    )
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


@given(case=cases(unknown=False, labels=LABELS.filter(bool)))
@SETTINGS
def test_m3se_with_one_negative_is_margin_mse(case):
    one_negative = case._replace(labels=case.labels.index_fill(1, torch.tensor([0]), 0.0))
    for ours, theirs in zip(*(value_and_gradient(name, one_negative) for name in ("m3se", "margin_mse")), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_softmax_distillation_approaches_an_eighth_of_margin_mse():
    """Proposition 3: tau^2 d softmax_ce / d s -> 1/8 d margin_mse / d s, with an error that falls like 1 / tau^2."""
    scores, teacher_scores = torch.randn(2, 5, 2, dtype=torch.float64)
    labels = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(5, 2)
    case = Case(scores, teacher_scores, labels, torch.ones(5, 2, dtype=torch.bool))
    limit = value_and_gradient("margin_mse", case)[1] / 8
    errors = []
    for temperature in (10.0, 100.0, 1000.0):
        _, gradient = value_and_gradient("softmax_distillation", case, temperature=temperature)
        errors.append((temperature**2 * gradient - limit).abs().max())
    assert errors[0] > 50 * errors[1] > 2500 * errors[2]
    assert errors[2] < 1e-5 * limit.abs().max()


@every_variant
@pytest.mark.parametrize("student", [1e4, -1e4])
@pytest.mark.parametrize("teacher", [1e4, -1e4, 1e6, -1e6])
def test_extreme_scores_are_finite_in_value_and_gradient(name, hyperparameters, student, teacher):
    ones = torch.ones(1, 6)
    case = Case(
        student * torch.tensor([[1.0, -1.0, 0.0, 0.5, 1.0, -1.0]]),
        teacher * torch.tensor([[1.0, 1.0, -1.0, 0.0, -1.0, -1.0]]),
        torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0, 2.0]]),
        ones.bool(),
    )
    value, gradient = value_and_gradient(name, case, **hyperparameters)
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_variant
@pytest.mark.parametrize("score", [0.0, 1e4])
def test_equal_scores_are_finite_in_value_and_gradient(name, hyperparameters, score):
    labels = torch.tensor([[1.0, 0.0, 0.0]])
    case = Case(*torch.full((2, 1, 3), score), labels, torch.ones(1, 3, dtype=torch.bool))
    value, gradient = value_and_gradient(name, case, **hyperparameters)
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_variant
@given(case=cases())
@SETTINGS
def test_an_unusable_query_contributes_nothing_and_a_usable_one_can(name, hyperparameters, case):
    usable = usable_queries(name, *case[1:])
    moved = torch.zeros_like(usable)
    for column in range(case.scores.shape[1]):
        scores = torch.zeros_like(case.scores).index_fill(1, torch.tensor([column]), 50.0)
        value, gradient = value_and_gradient(name, case._replace(scores=scores), **hyperparameters)
        assert (gradient[~usable] == 0).all()
        assert usable.any() or value == 0
        moved |= (gradient != 0).any(dim=1)
    assert torch.equal(moved, usable)


def test_mse_cannot_learn_from_a_query_whose_teacher_scores_are_all_unknown():
    teacher_scores = torch.tensor([[torch.nan, torch.nan], [torch.nan, 1.0]])
    everything = torch.ones(2, 2, dtype=torch.bool)
    assert usable_queries("mse", teacher_scores, torch.zeros(2, 2), everything).tolist() == [False, True]
