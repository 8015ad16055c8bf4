"""A student's own averaged weights as its teacher."""

import pytest
import torch
from transformers import TrainerCallback

from m3se import LOSSES, InputError
from m3se.trainers.losses import softmax_ce
from tests.worlds import tiny


AVERAGED = {"ema_decay": 0.75, "one_hot_weight": 0.4}


class Recorder(TrainerCallback):
    """The weights after each step."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append(tiny.flat_weights(model))


def average(trainer):
    return torch.cat([weight.flatten() for weight in trainer.average.weights.values()])


def test_the_average_moves_by_its_share_after_each_step(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, max_steps=2, learning_rate=0.01, **AVERAGED)
    start, recorder = tiny.flat_weights(trainer.model), Recorder()
    trained = torch.cat([torch.full((weight.numel(),), weight.requires_grad) for weight in trainer.model.parameters()])
    trainer.add_callback(recorder)
    trainer.train()
    first, second = recorder.weights
    expected = 0.75 * (0.75 * start + 0.25 * first) + 0.25 * second
    torch.testing.assert_close(average(trainer), expected[trained])
    assert (second - first).abs().max() > 1e-3


def test_its_scores_without_dropout_take_the_place_of_a_teachers(tmp_path):
    lists = tiny.ranking_lists(scored=False)
    trainer = tiny.make_trainer(
        tiny.dual_encoder(dropout=0.3), lists, tmp_path, max_steps=1, learning_rate=0.05, **AVERAGED
    )
    trainer.train()
    batch = tiny.batch(lists)
    averaged = tiny.dual_encoder()
    averaged.load_state_dict(trainer.model.state_dict() | trainer.average.weights)
    with torch.no_grad():
        teacher_scores = averaged.eval()(**tiny.model_inputs(batch)).scores
    torch.manual_seed(3)
    loss = trainer.compute_loss(trainer.model.train(), batch)
    torch.manual_seed(3)
    scores = trainer.model(**tiny.model_inputs(batch)).scores
    targets = teacher_scores, batch["labels"], batch["mask"]
    expected = 0.6 * LOSSES["softmax_distillation"](scores, *targets) + 0.4 * softmax_ce(scores, *targets)
    torch.testing.assert_close(loss, expected)
    assert trainer.model.training
    assert (teacher_scores - scores)[batch["mask"]].abs().max() > 0.1


def test_a_score_of_the_lists_is_not_read(lists, tmp_path):
    losses = []
    for rows in (lists.rows, lists.rows.remove_columns("teacher_scores")):
        lists.rows = rows
        trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, max_steps=1, logging_steps=1, **AVERAGED)
        trainer.train()
        losses.append(tiny.train_logs(trainer)[0]["loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema_decay": 0.9}, "ema_decay: expected one_hot_weight above 0"),
        ({**AVERAGED, "loss": "softmax_ce"}, "ema_decay: expected one of .*softmax_distillation, got loss softmax_ce"),
        ({**AVERAGED, "ema_decay": 1.5}, "ema_decay: expected 0 to 1, got 1.5"),
        ({**AVERAGED, "loss_args": {"teacher_temperature": "auto"}}, "teacher_temperature: auto reads a teacher"),
    ],
)
def test_what_the_average_cannot_teach_is_refused(options, message, lists, tmp_path):
    with pytest.raises(InputError, match=message):
        tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, **options)
