"""A share of the start's weights in a training's result."""

import pytest
import torch

from m3se import InputError
from m3se.trainers.data import RankingLists
from m3se.trainers.models.lora import add_adapter
from tests.worlds import tiny


TRAINING = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "learning_rate": 0.01, "loss": "softmax_ce"}
MEASURED = {"eval_strategy": "steps", "eval_steps": 1}


def trained(lists, folder, resume=None, **options):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, folder, **TRAINING | options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_weights_lie_between_the_trained_ones_and_the_start(share, lists, tmp_path):
    start, plain = tiny.flat_weights(tiny.dual_encoder()), trained(lists, tmp_path / "plain")
    mixed = trained(lists, tmp_path / "mixed", start_share=share)
    expected = share * start.double() + (1 - share) * tiny.flat_weights(plain.model).double()
    torch.testing.assert_close(tiny.flat_weights(mixed.model), expected.float())
    assert (start - tiny.flat_weights(plain.model)).abs().max() > 1e-3


def test_the_saved_weights_are_what_is_measured_at_last(lists, tmp_path):
    trainer = trained(lists, tmp_path, dev=lists, start_share=0.5, **MEASURED)
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(losses) == 5 and losses[-1] == trainer.evaluate()["eval_loss"] != losses[-2]


def test_the_best_checkpoint_is_what_is_moved_towards_the_start(lists, tmp_path):
    wrong = RankingLists(lists.rows.map(lambda row: {"labels": row["labels"][::-1]}), lists.documents)
    options = {"dev": wrong, "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"} | MEASURED
    start, plain = tiny.flat_weights(tiny.dual_encoder()), trained(lists, tmp_path / "plain", **options)
    assert plain.state.best_global_step < 4  # the more it learns, the worse it is on labels in the opposite order
    mixed = trained(lists, tmp_path / "mixed", start_share=0.5, **options)
    torch.testing.assert_close(tiny.flat_weights(mixed.model), (start + tiny.flat_weights(plain.model)) / 2)


def test_a_learned_scale_stays_as_it_was_trained(lists, tmp_path):
    scales = []
    for name, share in (("plain", 0.0), ("mixed", 0.5)):
        model = tiny.dual_encoder(normalize=True, learn_scale=True)
        options = TRAINING | {"start_share": share, "score_scale": "learned", "loss": "m3se"}
        tiny.make_trainer(model, lists, tmp_path / name, **options).train()
        scales.append(model.reached_scale())
    assert scales[0] == scales[1] != 20.0


def test_a_resumed_run_ends_alike(lists, tmp_path):
    whole = trained(lists, tmp_path, start_share=0.5)
    again = trained(lists, tmp_path, str(tmp_path / "checkpoint-2"), start_share=0.5)
    assert torch.equal(tiny.flat_weights(again.model), tiny.flat_weights(whole.model))


def test_shares_that_cannot_be_are_refused(lists, tmp_path):
    for share in (-0.1, 1.1):
        with pytest.raises(InputError, match=f"start_share: expected .*, got {share}"):
            tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, start_share=share)
    with pytest.raises(InputError, match="start_share: the mean of an adapter's factors"):
        tiny.make_trainer(add_adapter(tiny.dual_encoder(), rank=2), lists, tmp_path, start_share=0.5)
