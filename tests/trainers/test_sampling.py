import pytest

from m3se.trainers.data import sample_row
from tests.worlds import tiny


@pytest.mark.parametrize("workers", [0, 1])
def test_every_epoch_sees_other_documents_of_the_lists(workers, lists, tmp_path):
    trainer = tiny.make_trainer(
        tiny.dual_encoder(), lists, tmp_path, max_steps=6, per_device_train_batch_size=4, sample_documents=2,
        dataloader_num_workers=workers,
    )  # fmt: skip
    seen, augment = [], trainer.augment
    names = lists.documents.ids

    def spy(batch):
        for query, index in zip(batch["query_ids"], batch["document_index"], strict=True):
            seen.append((query, [names[key] for key in batch["document_keys"][index].tolist()]))
        return augment(batch)

    trainer.augment = spy
    trainer.train()
    rows = {row["query_id"]: row for row in lists.rows}
    for epoch in range(3):
        found = dict(seen[8 * epoch : 8 * epoch + 8])
        assert found == {
            query: sample_row(row, 2, trainer.args.seed, epoch)["document_ids"] for query, row in rows.items()
        }
    assert len({tuple(documents) for query, documents in seen if query == "q0"}) > 1


def test_evaluation_ranks_whole_lists(lists, tmp_path):
    whole = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, lists).evaluate()
    sampled = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, lists, sample_documents=2).evaluate()
    for name in ("train_MRR@10", "eval_MRR@10", "eval_nDCG@10"):
        assert sampled[name] == whole[name]
