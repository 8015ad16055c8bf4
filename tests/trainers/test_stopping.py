import pytest
import torch
from transformers import TrainerCallback

from tests.worlds import tiny


class WorseAndWorse(TrainerCallback):
    """Turns the weights round after the given step, as a training run that fails from then on."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step > self.step:
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    if "word_embeddings" in name:
                        weight.copy_(weight.roll(1, dims=0))


def stopping_trainer(lists, folder, **options):
    return tiny.make_trainer(
        tiny.dual_encoder(), lists, folder, lists, max_steps=20, learning_rate=0.03, eval_strategy="steps",
        save_strategy="steps", eval_steps=2, save_steps=2, early_stopping_patience=2, **options,
    )  # fmt: skip


def test_training_stops_early_and_keeps_the_best_checkpoint(lists, tmp_path):
    trainer = stopping_trainer(lists, tmp_path)
    trainer.add_callback(WorseAndWorse(step=6))
    trainer.train()
    quality = {entry["step"]: entry["eval_nDCG@10"] for entry in tiny.eval_logs(trainer)}
    best = max(quality, key=lambda step: (quality[step], -step))
    assert trainer.state.best_global_step == best
    assert trainer.state.global_step == best + 4 < 20
    assert max(quality.values()) > quality[trainer.state.global_step]
    kept = type(trainer.model).from_pretrained(tmp_path / f"checkpoint-{best}")
    assert torch.equal(tiny.flat_weights(trainer.model), tiny.flat_weights(kept))
    assert trainer.evaluate()["eval_nDCG@10"] == quality[best]


def test_on_a_plateau_the_learning_rate_falls(lists, tmp_path):
    schedule = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"factor": 0.25, "patience": 0}}
    trainer = stopping_trainer(lists, tmp_path, **schedule, logging_steps=2)
    trainer.add_callback(WorseAndWorse(step=6))
    trainer.train()
    quality = {entry["step"]: entry["eval_nDCG@10"] for entry in tiny.eval_logs(trainer)}
    rate, best = 0.03, -1.0
    for entry in tiny.train_logs(trainer):  # logged before the evaluation of its step
        assert entry["learning_rate"] == pytest.approx(rate)
        rate, best = (rate, quality[entry["step"]]) if quality[entry["step"]] > best else (rate * 0.25, best)
    assert rate < 0.03


def test_a_resumed_run_goes_on_counting_its_patience(lists, tmp_path):
    first = stopping_trainer(lists, tmp_path)
    first.add_callback(WorseAndWorse(step=0))
    first.train()
    stopped = first.state.global_step
    second = stopping_trainer(lists, tmp_path)
    second.add_callback(WorseAndWorse(step=0))
    second.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stopped - 2}"))
    assert second.state.global_step == stopped


def test_a_limit_of_checkpoints_deletes_nobody_elses_folder(lists, tmp_path):
    """Trainer's own limit takes whatever is called checkpoint-* for a checkpoint, the oldest first."""
    copies = {"checkpoint-best", "checkpoint-2.old", "checkpoint-1-copy"}
    for name in copies:
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("mine", encoding="utf-8")
    trainer = tiny.make_trainer(
        tiny.dual_encoder(), lists, tmp_path, max_steps=4, save_strategy="steps", save_steps=1, save_total_limit=2
    )
    trainer.train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == copies | {"checkpoint-3", "checkpoint-4"}
    assert all((tmp_path / name / "weights").read_text(encoding="utf-8") == "mine" for name in copies)
