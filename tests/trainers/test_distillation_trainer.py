import pytest
import torch

from tests import tiny
from trainers import LOSSES, DistillationTrainer, RankingConfig


QUIET = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
PLAIN_SGD = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.05, "lr_scheduler_type": "constant"}


def make_trainer(model, lists, folder, dev=None, **options):
    """A trainer on the CPU, in float32 and silent, unless `options` say otherwise."""
    args = RankingConfig(output_dir=str(folder), **QUIET | {"precision": "fp32", "max_steps": 2} | options)
    return DistillationTrainer(
        model=model,
        args=args,
        data_collator=tiny.collator(lists),
        train_dataset=lists.rows,
        eval_dataset=dev.rows if dev else None,
        processing_class=tiny.tokenizer(),
    )


@pytest.mark.parametrize("build", [tiny.dual_encoder, tiny.cross_encoder])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_every_model(build, loss, lists, tmp_path):
    trainer = make_trainer(build(), lists, tmp_path, loss=loss)
    start = tiny.flat_weights(trainer.model)
    trainer.train()
    assert not torch.equal(tiny.flat_weights(trainer.model), start)


@pytest.mark.parametrize("build", [tiny.dual_encoder, tiny.cross_encoder])
@pytest.mark.parametrize(
    "options",
    [
        {"in_batch_negatives": True},
        {"uniform_negatives": 3},
        {"in_batch_negatives": True, "uniform_negatives": 3},
        {"token_dropout": 0.3},
        {"mlm_weight": 0.1},
        {"one_hot_weight": 0.5},
        {"forward_chunk_size": 3},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_every_option_trains_every_model(build, options, lists, tmp_path):
    trainer = make_trainer(build(), lists, tmp_path, loss="m3se", per_device_train_batch_size=4, **options)
    start = tiny.flat_weights(trainer.model)
    trainer.train()
    assert not torch.equal(tiny.flat_weights(trainer.model), start)
