import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from m3se import LOSSES
from m3se.trainers.evaluation.metrics import ndcg, reciprocal_rank
from m3se.trainers.sampling import sample_rows
from tests.worlds import tiny


BUILDERS = [tiny.dual_encoder, tiny.cross_encoder]
STANDING_STILL = {"learning_rate": 0.0, "logging_steps": 1}  # what is logged can be computed again afterwards


def scores_one_by_one(model, lists):
    """The scores [K_i] of each row alone."""
    model.eval()
    with torch.no_grad():
        return [model(**tiny.model_inputs(tiny.batch(lists, [i]))).scores[0] for i in range(len(lists.rows))]


COSINE = partial(tiny.dual_encoder, normalize=True, learn_scale=True)


@pytest.mark.parametrize("build", [tiny.dual_encoder, COSINE], ids=["inner product", "cosine"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_gives_every_weight_in_use_a_gradient(loss, build, lists, tmp_path):
    trainer = tiny.make_trainer(build(), lists, tmp_path, loss=loss)
    trainer.compute_loss(trainer.model.train(), tiny.batch(lists)).backward()
    for name, weight in trainer.model.named_parameters():
        in_use = "pooler" not in name and "key.bias" not in name  # a key's bias shifts all attention alike: no effect
        if in_use:
            assert weight.grad is not None and weight.grad.abs().max() > 0, name


def test_the_loss_has_the_hyperparameters_of_the_arguments(lists, tmp_path):
    def loss(**hyperparameters):
        options = {"loss": "m3se", "loss_args": hyperparameters}
        trainer = tiny.make_trainer(tiny.dual_encoder().eval(), lists, tmp_path, **options)
        return trainer.compute_loss(trainer.model, tiny.batch(lists), return_outputs=True)

    (plain, outputs), (squared, _) = loss(), loss(hinge_power=2)
    targets = outputs["scores"], outputs["teacher_scores"], outputs["labels"], outputs["mask"]
    torch.testing.assert_close(plain, LOSSES["m3se"](*targets, hinge_power=1))
    torch.testing.assert_close(squared, LOSSES["m3se"](*targets, hinge_power=2))
    assert (plain - squared).abs() > 1e-3


def test_a_chunk_of_texts_is_what_the_encoder_sees_at_once(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, forward_chunk_size=3)
    seen = []
    trainer.model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    batch = tiny.batch(lists)
    trainer.compute_loss(trainer.model.train(), batch)
    assert max(seen) == 3
    assert sum(seen) == len(batch["query_input_ids"]) + len(batch["document_input_ids"])


def test_the_one_hot_loss_is_mixed_in_with_its_weight(lists, tmp_path):
    batch = tiny.batch(lists)

    def loss(name, **options):
        trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, loss=name, **options)
        return trainer.compute_loss(trainer.model.train(), batch).item()

    mixed = loss("m3se", loss_args={"hinge_power": 2}, one_hot_weight=0.3)
    parts = loss("m3se", loss_args={"hinge_power": 2}), loss("softmax_ce")
    assert mixed == pytest.approx(0.7 * parts[0] + 0.3 * parts[1])


@pytest.mark.parametrize(("weight", "skipped"), [(0.0, 4), (0.5, 0)])
def test_queries_without_teacher_scores_learn_from_the_one_hot_loss_only(weight, skipped, tmp_path):
    lists = tiny.ranking_lists(queries=4, scored=False)
    options = {"loss": "margin_mse", "one_hot_weight": weight, "max_steps": 1, "logging_steps": 1}
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, **options)
    trainer.train()
    assert tiny.train_logs(trainer)[0]["skipped_queries"] == skipped
    assert (tiny.train_logs(trainer)[0]["grad_norm"] == 0) == (weight == 0)


@pytest.mark.parametrize("build", [*BUILDERS, tiny.colbert])
@pytest.mark.parametrize(
    "options",
    [
        {"in_batch_negatives": True, "token_dropout": 0.3, "one_hot_weight": 0.5},
        {"uniform_negatives": 3, "mlm_weight": 0.1, "forward_chunk_size": 3, "precision": "bf16"},
    ],
    ids=str,
)
def test_options_train_every_model(build, options, lists, tmp_path):
    trainer = tiny.make_trainer(build(), lists, tmp_path, loss="m3se", learning_rate=0.01, **options)
    start = tiny.flat_weights(trainer.model)
    trainer.train()
    assert (tiny.flat_weights(trainer.model) - start).abs().max() > 1e-3


def test_a_distilled_student_ranks_like_its_teacher(lists, tmp_path):
    trainer = tiny.make_trainer(
        tiny.dual_encoder(), lists, tmp_path, max_steps=60, learning_rate=0.03, logging_steps=20
    )
    trainer.train()
    agreements = [entry["teacher_top1_agreement"] for entry in tiny.train_logs(trainer)]
    assert agreements[0] < 1
    assert agreements[-1] == 1


@pytest.mark.parametrize("build", [tiny.dual_encoder, partial(tiny.dual_encoder, tied=False), tiny.cross_encoder])
def test_the_training_log_says_what_happened(build, tmp_path):
    lists = tiny.ranking_lists(queries=4)
    lists.rows = lists.rows.map(lambda row, i: row if i else {"labels": [0.0] * len(row["labels"])}, with_indices=True)
    trainer = tiny.make_trainer(build(), lists, tmp_path, loss="margin_mse", **STANDING_STILL)
    trainer.train()
    scores = scores_one_by_one(trainer.model, lists)
    teacher = [torch.tensor(row["teacher_scores"]) for row in lists.rows]
    agreeing = [s.argmax() == t.argmax() for s, t in zip(scores, teacher, strict=True)]
    batch = tiny.batch(lists)
    queries, documents = (batch[f"{side}_attention_mask"] for side in ("query", "document"))
    if build is tiny.cross_encoder:
        pairs = queries.sum(1)[:, None] + documents.sum(1)[batch["document_index"]] - 1
        tokens, places = pairs[batch["mask"]].sum(), pairs[batch["mask"]].max() * batch["mask"].sum()
    else:
        tokens, places = queries.sum() + documents.sum(), queries.numel() + documents.numel()
    for entry in tiny.train_logs(trainer):
        assert entry["teacher_top1_agreement"] == pytest.approx(sum(agreeing) / 4)
        assert entry["skipped_queries"] == 1  # the first has no positive
        assert entry["padding"] == pytest.approx(1 - (tokens / places).item(), abs=1e-4)
        assert entry["documents_per_second"] > 0
    assert len(tiny.train_logs(trainer)) == 2


@pytest.mark.parametrize("batch_size", [3, 8])
def test_evaluation_measures_dev_and_a_sample_of_the_training_queries(batch_size, lists, tmp_path):
    dev = tiny.ranking_lists(queries=7, seed=1)
    dev.rows = dev.rows.map(lambda row, i: row if i else {"labels": [0.0] * len(row["labels"])}, with_indices=True)
    trainer = tiny.make_trainer(
        tiny.dual_encoder(),
        lists,
        tmp_path,
        dev,
        loss="margin_mse",
        eval_strategy="steps",
        eval_steps=1,
        train_sample_size=5,
        per_device_eval_batch_size=batch_size,
        **STANDING_STILL,
    )
    trainer.train()
    sample = SimpleNamespace(rows=trainer.train_sample, documents=lists.documents)
    assert len(sample.rows) == 5
    assert set(sample.rows["query_id"]) < set(lists.rows["query_id"])
    for prefix, part in (("eval", dev), ("train", sample)):
        per_query = []
        for scores, row in zip(scores_one_by_one(trainer.model, part), part.rows, strict=True):
            labels, teacher = torch.tensor(row["labels"]), torch.tensor(row["teacher_scores"])
            each = [values[None] for values in (scores, labels)]
            loss = LOSSES["margin_mse"](scores[None], teacher[None], labels[None], torch.ones(1, len(labels)).bool())
            per_query.append([reciprocal_rank(*each).item(), ndcg(*each).item(), loss.item(), labels.any().item()])
        ranks, gains, losses, usable = torch.tensor(per_query).T
        for entry in tiny.eval_logs(trainer):
            assert entry[f"{prefix}_MRR@10"] == pytest.approx(ranks.mean().item())
            assert entry[f"{prefix}_nDCG@10"] == pytest.approx(gains.mean().item())
            assert entry[f"{prefix}_loss"] == pytest.approx((losses.sum() / usable.sum()).item(), rel=1e-5)
    assert len(tiny.eval_logs(trainer)) == 2


def test_dev_lists_without_teacher_scores_are_ranked_but_have_no_loss(lists, tmp_path):
    dev = tiny.ranking_lists(queries=3, seed=1, scored=False)
    metrics = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, dev, loss="m3se").evaluate()
    assert {"eval_MRR@10", "eval_nDCG@10", "train_MRR@10", "train_nDCG@10", "train_loss"} <= metrics.keys()
    assert "eval_loss" not in metrics


def test_the_training_sample_depends_on_the_seed_only(lists, tmp_path):
    samples = [
        tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, train_sample_size=3, seed=seed).train_sample[
            "query_id"
        ]
        for seed in (1, 1, 2)
    ]
    assert samples[0] == samples[1] != samples[2]
    torch.rand(1)  # another state of the global generator
    assert sample_rows(lists.rows, 3, 1)["query_id"] == samples[0]


@pytest.mark.parametrize(("build", "times"), [(tiny.dual_encoder, 1), (tiny.cross_encoder, 2)])
def test_a_document_of_two_queries_counts_as_often_as_it_is_read(build, times, lists, tmp_path):
    lists.rows = lists.rows.select([0, 0])
    trainer = tiny.make_trainer(build(), lists, tmp_path)
    trainer.compute_loss(trainer.model.train(), tiny.batch(lists))
    assert trainer.meter.counts["documents"] == times * 4


def test_an_evaluation_measures_every_row_whatever_training_drops(lists, tmp_path):
    options = {"dataloader_drop_last": True, "per_device_eval_batch_size": 3, "per_device_train_batch_size": 2}
    whole = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, lists).evaluate()
    dropping = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, lists, **options).evaluate()
    assert dropping["eval_MRR@10"] == pytest.approx(whole["eval_MRR@10"])


def test_log_history_is_plain_json(lists, tmp_path):
    trainer = tiny.make_trainer(
        tiny.dual_encoder(), lists, tmp_path, lists, logging_steps=1, eval_strategy="steps", eval_steps=1
    )
    trainer.train()
    json.dumps(trainer.state.log_history, allow_nan=False)
