import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3se.trainers.errors import InputError
from m3se.trainers.sampling import sample_row
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


ROW = {
    "query_id": "q",
    "query": "text",
    "document_ids": list("abcdef"),
    "labels": [1.0, 0.0, 0.0, 2.0, 0.0, 0.0],
    "teacher_scores": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    "positive_ids": ["x"],
}


def test_a_sampled_row_keeps_positives_and_draws_negatives():
    row = sample_row(ROW, 4, seed=0, epoch=0)
    assert row["labels"] == [1, 2, 0, 0] and row["document_ids"][:2] == ["a", "d"] and row["positive_ids"] == ["x"]
    assert row["teacher_scores"] == [float("abcdef".index(document)) for document in row["document_ids"]]
    assert row["query"] == "text"


def test_epochs_and_seeds_draw_differently_and_reach_all_negatives():
    drawn = [sample_row(ROW, 4, seed=0, epoch=epoch)["document_ids"] for epoch in range(30)]
    assert drawn == [sample_row(ROW, 4, seed=0, epoch=epoch)["document_ids"] for epoch in range(30)]
    assert {document for row in drawn for document in row[2:]} == set("bcef")
    assert drawn != [sample_row(ROW, 4, seed=1, epoch=epoch)["document_ids"] for epoch in range(30)]


def test_with_more_positives_than_room_another_one_is_drawn_and_the_rest_is_no_negative():
    rows = [sample_row(ROW, 2, seed=0, epoch=epoch) for epoch in range(30)]
    assert {row["document_ids"][0] for row in rows} == {"a", "d"}
    for row in rows:
        assert row["labels"][1] == 0 and {row["document_ids"][0], *row["positive_ids"]} == {"a", "d", "x"}


def test_a_short_row_comes_back_as_it_is():
    assert sample_row(ROW, 6, seed=0, epoch=0) is ROW
    with pytest.raises(InputError, match="expected at least 2, got 1"):
        sample_row(ROW, 1, seed=0, epoch=0)


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=12), size=st.integers(2, 12), epoch=st.integers(0, 9))
def test_a_sample_is_part_of_the_row_with_its_own_labels(labels, size, epoch):
    ids = [f"d{place}" for place in range(len(labels))]
    row = sample_row({"query_id": "q", "document_ids": ids, "labels": labels}, size, seed=1, epoch=epoch)
    assert len(set(row["document_ids"])) == len(row["document_ids"]) <= size
    assert row["labels"] == [labels[ids.index(document)] for document in row["document_ids"]]
    positives = sum(label > 0 for label in labels)
    if len(labels) > size:
        assert sum(label > 0 for label in row["labels"]) == min(positives, size - 1)
