"""What DistillationTrainer takes: any data set and collator that fit, and what it refuses by name."""

import pytest
import torch

from m3se import DistillationTrainer, InputError, RankingConfig
from tests.worlds import tiny


def test_a_loss_that_is_not_finite_stops_training_with_step_and_queries(lists, tmp_path):
    rows = [dict(row) for row in lists.rows]
    rows[5]["teacher_scores"] = [float("inf"), 1.0, 1.0]
    lists.rows = lists.rows.from_list(rows)
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, loss="margin_mse")
    with pytest.raises(FloatingPointError, match=r"^the loss is (inf|nan) at step 0, queries q5$"):
        trainer.train()


def test_scores_that_are_not_numbers_stop_training(lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, per_device_train_batch_size=2)
    with torch.no_grad():
        trainer.model.encoder.embeddings.LayerNorm.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"^the loss is nan at step 0, queries q\d, q\d$"):
        trainer.train()


@pytest.mark.parametrize("target", ["labels", "teacher_scores", "mask"])
def test_targets_of_another_shape_are_refused(target, lists, tmp_path):
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path)
    batch = tiny.batch(lists)
    batch[target] = batch[target][:, :1]
    with pytest.raises(ValueError, match=rf"scores \[8, 4\], {target} \[8, 1\]"):
        trainer.compute_loss(trainer.model, batch)
    del batch[target]
    with pytest.raises(ValueError, match=f"got none with {target}"):
        trainer.compute_loss(trainer.model, batch)


class Batches(torch.utils.data.Dataset):
    """Rows that are no Arrow table."""

    def __init__(self, lists):
        self.rows = [dict(row) for row in lists.rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number]


def own_collator(lists):
    """A function that gives what the model and the loss read, and nothing else."""
    ours = tiny.collator(lists)
    unused = ("own_keys", "document_keys", "query_ids")
    return lambda rows: {name: value for name, value in ours(rows).items() if name not in unused}


def test_any_data_set_and_any_collator_train_alike(lists, tmp_path):
    weights = []
    for rows, collator in ((lists.rows, tiny.collator(lists)), (Batches(lists), own_collator(lists))):
        torch.manual_seed(0)
        trainer = DistillationTrainer(
            model=tiny.dual_encoder(),
            args=RankingConfig(str(tmp_path), use_cpu=True, max_steps=2, report_to="none", disable_tqdm=True),
            data_collator=collator,
            train_dataset=rows,
            eval_dataset=rows,
            processing_class=tiny.tokenizer(),
        )
        trainer.train()
        assert trainer.evaluate()["eval_MRR@10"] > 0
        weights.append(tiny.flat_weights(trainer.model))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_a_collator_without_the_models_prompts_is_refused(lists, tmp_path):
    with pytest.raises(InputError, match=r"the model expects the prompts \('salt ', ''\), got \('', ''\)"):
        tiny.make_trainer(tiny.dual_encoder(query_prompt="salt "), lists, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uniform_negatives": 2}, "uniform_negatives: needs a RankingCollator"),
        ({"eval_documents": True}, "eval_documents: needs a RankingCollator"),
    ],
    ids=str,
)
def test_what_needs_the_document_table_says_so(options, message, lists, tmp_path):
    with_texts = {"eval_documents": lists.documents} if options.pop("eval_documents", False) else {}
    with pytest.raises(InputError, match=message):
        DistillationTrainer(
            model=tiny.dual_encoder(),
            args=RankingConfig(str(tmp_path), use_cpu=True, report_to="none", **options),
            data_collator=own_collator(lists),
            train_dataset=Batches(lists),
            processing_class=tiny.tokenizer(),
            **with_texts,
        )


def test_a_training_of_no_whole_batch_is_refused(lists, tmp_path):
    options = {"dataloader_drop_last": True, "per_device_train_batch_size": 64}
    with pytest.raises(InputError, match="dataloader_drop_last: expected at least 64 rows, a whole batch, got 8"):
        tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, **options)


def test_more_uniform_negatives_than_documents_are_refused(lists, tmp_path):
    with pytest.raises(InputError, match="uniform_negatives: expected at most 40"):
        tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, uniform_negatives=41)


def test_other_models_are_refused(lists, tmp_path):
    with pytest.raises(TypeError, match="expected one of .*DualEncoder.*, got BertModel"):
        tiny.make_trainer(tiny.dual_encoder().encoder, lists, tmp_path)
