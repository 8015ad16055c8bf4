"""The mean of a training's last checkpoints as its result."""

import logging

import pytest
import torch

from m3se import DualEncoder, InputError
from m3se.trainers.models.lora import add_adapter
from tests.worlds import tiny


SAVED = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "learning_rate": 0.01, "loss": "softmax_ce"}


def weights_at(folder, step: int) -> torch.Tensor:
    return tiny.flat_weights(DualEncoder.from_pretrained(folder / f"checkpoint-{step}"))


@pytest.mark.parametrize(("count", "steps"), [(2, [3, 4]), (3, [2, 3, 4])])
def test_the_weights_are_the_mean_of_the_last_checkpoints(count, steps, lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, average_checkpoints=count, **SAVED)
    trainer.train()
    saved = torch.stack([weights_at(tmp_path, step) for step in steps])
    torch.testing.assert_close(tiny.flat_weights(trainer.model), saved.double().mean(0).float())
    assert (saved[-1] - saved[0]).abs().max() > 1e-3


def test_the_mean_is_what_is_measured_at_last(lists, tmp_path):
    trainer = tiny.make_trainer(
        tiny.dual_encoder(),
        lists,
        tmp_path,
        dev=lists,
        average_checkpoints=4,
        eval_strategy="steps",
        eval_steps=2,
        **SAVED,
    )
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(losses) == 3 and losses[-1] == trainer.evaluate()["eval_loss"] != losses[-2]


def test_the_checkpoints_stay_as_they_were_and_a_resumed_run_ends_alike(lists, tmp_path):
    averaged = {"average_checkpoints": 3, "save_total_limit": 3}
    whole = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path / "whole", **averaged, **SAVED)
    whole.train()
    plain = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path / "plain", **SAVED)
    plain.train()
    assert torch.equal(weights_at(tmp_path / "whole", 4), tiny.flat_weights(plain.model))
    again = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path / "whole", **averaged, **SAVED)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert torch.equal(tiny.flat_weights(again.model), tiny.flat_weights(whole.model))


def test_fewer_checkpoints_than_wanted_are_said(lists, tmp_path, caplog):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, average_checkpoints=6, **SAVED)
    with caplog.at_level(logging.INFO):
        trainer.train()
    assert "average_checkpoints: 6 are wanted, and 4 there" in caplog.text
    assert "the mean of the checkpoints of steps 1, 2, 3, 4" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average_checkpoints": 1}, "average_checkpoints: expected at least 2, got 1"),
        ({"average_checkpoints": 2, "save_strategy": "no"}, "needs save_strategy steps or epoch, got no"),
        ({"average_checkpoints": 3, "save_total_limit": 2}, "at most save_total_limit, which is 2, got 3"),
        (
            {"average_checkpoints": 2, "eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True},
            "expected load_best_model_at_end and early stopping off",
        ),
    ],
)
def test_checkpoints_that_cannot_be_averaged_are_refused(options, message, lists, tmp_path):
    with pytest.raises(InputError, match=message):
        tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, **SAVED | options)


def test_an_adapter_is_refused(lists, tmp_path):
    model = add_adapter(tiny.dual_encoder(), rank=2)
    with pytest.raises(InputError, match="average_checkpoints: the mean of an adapter's factors"):
        tiny.make_trainer(model, lists, tmp_path, average_checkpoints=2, **SAVED)
