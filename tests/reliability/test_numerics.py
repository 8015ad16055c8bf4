"""What happens where numbers end, as docs/reliability.md states it."""

from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

from m3se.trainers.callbacks import FiniteGradients
from m3se.trainers.losses import LOSSES
from tests.trainers.loss_cases import VARIANTS
from tests.worlds import tiny


@pytest.mark.parametrize(("name", "hyperparameters"), VARIANTS)
@pytest.mark.parametrize("teacher", [[1e6, -1e6, 0.0], [-1e6, 1e6, 1e6], [1e6, 1e6, 1e6]], ids=str)
def test_a_teacher_of_a_million_gives_a_finite_loss_and_gradient(name, hyperparameters, teacher):
    scores = torch.tensor([[3.0, -2.0, 0.5]], requires_grad=True)
    labels, mask = torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(1, 3, dtype=torch.bool)
    loss = LOSSES[name](scores, torch.tensor([teacher]), labels, mask, **hyperparameters)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()


class SpoilGradient(TrainerCallback):
    """A gradient that turns NaN, inf or a usual number at step 1, after the loss was finite."""

    def __init__(self, value):
        self.value = value

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.before = tiny.flat_weights(model).clone()
        if state.global_step == 1:
            weight = next(weight for weight in model.parameters() if weight.requires_grad)
            weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), self.value))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_not_finite_stops_training_before_its_step(lists, tmp_path, value, clip):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, max_steps=4, max_grad_norm=clip)
    spoil = SpoilGradient(value)
    trainer.add_callback(spoil)
    with pytest.raises(FloatingPointError, match="gradient is not finite at step 1; no step was made with it"):
        trainer.train()
    assert torch.equal(tiny.flat_weights(trainer.model), spoil.before)


def test_with_float16_the_gradient_scaler_decides():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([float("nan"), 1.0])
    model, state = torch.nn.ParameterList([weight]), SimpleNamespace(global_step=7)
    FiniteGradients().on_pre_optimizer_step(SimpleNamespace(fp16=True), state, None, model=model)
    with pytest.raises(FloatingPointError, match="step 7"):
        FiniteGradients().on_pre_optimizer_step(SimpleNamespace(fp16=False), state, None, model=model)


def huge_encoder():
    """Hidden states of about a million: more than float16 holds, little for bfloat16."""
    model = tiny.dual_encoder()
    with torch.no_grad():
        model.encoder.encoder.layer[0].intermediate.dense.weight.mul_(1e6)
    return model


def test_an_overflow_in_float16_stops_training_and_one_in_bfloat16_does_not_happen(lists, tmp_path):
    trainer = tiny.make_trainer(huge_encoder(), lists, tmp_path, loss="softmax_ce")
    batch = tiny.batch(lists)
    with torch.autocast("cpu", torch.bfloat16):
        assert trainer.compute_loss(trainer.model, dict(batch)).isfinite()
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(FloatingPointError, match=r"the loss is nan at step 0, queries q0, "),
    ):
        trainer.compute_loss(trainer.model, dict(batch))


def test_scores_are_float32_whatever_the_encoder_computes_in(lists):
    model, batch = tiny.dual_encoder().eval(), tiny.batch(lists)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = model(**tiny.model_inputs(batch)).scores
    assert scores.dtype == torch.float32
    eighth = scores[batch["mask"]].to(torch.bfloat16).float()
    assert (scores[batch["mask"]] != eighth).any()  # 8 bits of mantissa were not all there was
