"""Different ways to compute the same step: they must give the same weights. SGD without clipping hides no scale."""

import copy

import pytest
import torch

from m3se.modeling import batching
from m3se.trainers.evaluation.metrics import ndcg, reciprocal_rank
from tests.worlds import tiny


PLAIN_SGD = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.05, "lr_scheduler_type": "constant"}
BUILDERS = [tiny.dual_encoder, tiny.cross_encoder, tiny.colbert]


def step(model, lists, folder, **options):
    """Weights after one step on all eight lists."""
    options = {"max_steps": 1, "per_device_train_batch_size": 8, "seed": 3, **PLAIN_SGD, **options}
    trainer = tiny.make_trainer(copy.deepcopy(model), lists, folder, **options)
    trainer.train()
    return tiny.flat_weights(trainer.model)


def assert_same_step(found, expected, start):
    moved = (expected - tiny.flat_weights(start)).abs().max()
    assert moved > 1e-3
    rounding = 2**-22  # of float32 weights between 1 and 2
    assert (found - expected).abs().max() < 1e-5 * moved + rounding


@pytest.mark.parametrize(("build", "loss"), zip(BUILDERS, ["softmax_distillation", "m3se", "softmax_ce"], strict=True))
def test_accumulated_small_batches_step_like_one_large_batch(build, loss, lists, tmp_path):
    large = step(build(), lists, tmp_path, loss=loss)
    small = step(build(), lists, tmp_path, loss=loss, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert_same_step(small, large, build())


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_step_like_the_plain_pass_without_dropout(build, chunk, lists, tmp_path):
    negatives = {"in_batch_negatives": True, "uniform_negatives": 4}
    plain = step(build(), lists, tmp_path, **negatives)
    assert_same_step(step(build(), lists, tmp_path, forward_chunk_size=chunk, **negatives), plain, build())


@pytest.mark.parametrize("build", BUILDERS)
def test_chunks_replay_the_dropout_of_their_forward_pass(build, lists, tmp_path, monkeypatch):
    """The same chunks with every activation kept are the plain pass."""
    model = build(dropout=0.3)
    replayed = step(model, lists, tmp_path, forward_chunk_size=3, token_dropout=0.2)
    monkeypatch.setattr(batching, "checkpoint", lambda encode, *inputs, use_reentrant: encode(*inputs))
    kept = step(model, lists, tmp_path, forward_chunk_size=3, token_dropout=0.2)
    assert torch.equal(replayed, kept)
    without = step(build(), lists, tmp_path, forward_chunk_size=3, token_dropout=0.2)
    assert (replayed - without).abs().max() > 1e-3


@pytest.mark.parametrize("build", BUILDERS)
def test_gradient_checkpointing_gives_the_same_gradients(build, lists, tmp_path):
    model = build(dropout=0.3)
    plain = step(model, lists, tmp_path)
    assert_same_step(step(model, lists, tmp_path, gradient_checkpointing=True), plain, model)


def test_masked_lm_loss_in_chunks_steps_like_whole(lists, tmp_path):
    plain = step(tiny.dual_encoder(), lists, tmp_path, mlm_weight=1.0)
    chunked = step(tiny.dual_encoder(), lists, tmp_path, mlm_weight=1.0, forward_chunk_size=3)
    assert_same_step(chunked, plain, tiny.dual_encoder())


def test_loader_workers_change_nothing(lists, tmp_path):
    options = {"uniform_negatives": 4, "token_dropout": 0.2, "max_steps": 3, "per_device_train_batch_size": 4}
    plain = step(tiny.dual_encoder(), lists, tmp_path, **options)
    assert torch.equal(step(tiny.dual_encoder(), lists, tmp_path, dataloader_num_workers=1, **options), plain)


@pytest.mark.parametrize("build", BUILDERS)
def test_bfloat16_and_float32_rank_a_fixed_set_alike(build, tmp_path, record_property):
    """Pairs that are further apart than bfloat16's 8 bits keep their order; the measured quality is the same."""
    lists = tiny.ranking_lists(queries=32, documents=6)
    batch = tiny.batch(lists)
    labels, mask = batch["labels"], batch["mask"]
    scores = {}
    for precision in ("fp32", "bf16"):
        trainer = tiny.make_trainer(build(), lists, tmp_path, precision=precision)
        scores[precision] = trainer.score(trainer.model.eval(), batch)[0].detach()
    exact, rounded = (values.masked_fill(~mask, -torch.inf) for values in scores.values())
    assert not torch.equal(exact, rounded)
    ties = [
        sum(len(row[keep]) - len(row[keep].unique()) for row, keep in zip(s, mask, strict=True))
        for s in (exact, rounded)
    ]
    record_property("ties in float32 and bfloat16", ties)
    tolerance = 2**-7 * exact[mask].abs().max()
    gaps = exact[:, :, None] - exact[:, None, :]
    clear = (gaps > 2 * tolerance) & mask[:, :, None] & mask[:, None, :]
    assert clear.sum() > 0.5 * (gaps > 0).logical_and(mask[:, :, None] & mask[:, None, :]).sum()
    assert (rounded[:, :, None] > rounded[:, None, :])[clear].all()
    assert abs(reciprocal_rank(exact, labels, mask).mean() - reciprocal_rank(rounded, labels, mask).mean()) < 0.02
    assert abs(ndcg(exact, labels, mask).mean() - ndcg(rounded, labels, mask).mean()) < 0.02
    assert ties[0] == 0
    if build is tiny.dual_encoder:
        assert ties[1] == 0  # inner products are summed in float32; a cross-encoder's logit may tie
