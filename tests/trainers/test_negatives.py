import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.negatives import add_columns, append_documents, draw_documents, negative_columns
from tests.worlds import tiny


@given(size=st.integers(1, 60), seed=st.integers(0, 100), data=st.data())
@settings(deadline=None, max_examples=50)
def test_drawn_documents_are_distinct_rows_of_the_collection(size, seed, data):
    count = data.draw(st.integers(0, size))
    drawn = draw_documents(size, count, [seed, 1, 0])
    assert len(set(drawn)) == len(drawn) == count
    assert set(drawn) <= set(range(size))


def test_a_draw_depends_on_its_name_only():
    draws = [draw_documents(10_000_000, 5, name) for name in ([0, 3, 1], [0, 3, 1], [0, 3, 0], [0, 4, 1], [1, 3, 1])]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 4


def test_draws_are_uniform_over_the_collection():
    counts = np.bincount([i for step in range(4000) for i in draw_documents(10, 3, [7, step, 0])], minlength=10)
    # 1,200 each, standard deviation 29
    assert counts.min() > 1050
    assert counts.max() < 1350


@st.composite
def documents_and_queries(draw):
    keys = draw(st.lists(st.integers(0, 9), min_size=1, max_size=8))
    eligible = draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    own = draw(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=3))
    return keys, eligible, own


@given(case=documents_and_queries())
@settings(deadline=None, max_examples=200)
def test_negatives_of_a_query_are_the_distinct_eligible_documents_that_are_not_its_own(case):
    keys, eligible, own = case
    padded = torch.tensor([[*row, *[-1] * (4 - len(row))] for row in own])
    columns = negative_columns(torch.tensor(keys), padded, torch.tensor(eligible))
    for row, mine in zip(columns.tolist(), own, strict=True):
        added = [keys[position] for position in row if position >= 0]
        assert len(set(added)) == len(added)
        assert set(added) == {key for key, fit in zip(keys, eligible, strict=True) if fit} - set(mine)
        assert all(eligible[position] for position in row if position >= 0)


def test_added_columns_have_label_0_and_no_teacher_score():
    batch = {
        "document_index": torch.tensor([[0, 1], [2, -1]]),
        "mask": torch.tensor([[True, True], [True, False]]),
        "labels": torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        "teacher_scores": torch.tensor([[3.0, 1.0], [2.0, torch.nan]]),
    }
    wider = add_columns(batch, torch.tensor([[-1, -1, 2], [0, -1, -1]]))  # the middle column is of no use
    assert wider["document_index"].tolist() == [[0, 1, -1, 2], [2, -1, 0, -1]]
    assert wider["mask"].tolist() == [[True, True, False, True], [True, False, True, False]]
    assert wider["labels"].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]
    assert wider["teacher_scores"][:, 2:].isnan().all()


def test_appended_documents_are_padded_to_the_wider():
    batch = {
        "document_input_ids": torch.tensor([[2, 7, 3]]),
        "document_attention_mask": torch.tensor([[1, 1, 1]]),
        "document_keys": torch.tensor([5]),
    }
    added = {
        "document_input_ids": torch.tensor([[2, 8, 8, 3], [2, 3, 9, 9]]),
        "document_attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "document_keys": torch.tensor([6, 7]),
    }
    joined = append_documents(batch, added, pad_token_id=9)
    assert joined["document_input_ids"].tolist() == [[2, 7, 3, 9], [2, 8, 8, 3], [2, 3, 9, 9]]
    assert joined["document_attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert joined["document_keys"].tolist() == [5, 6, 7]


def positives_elsewhere(lists):
    """`lists` whose first query has a known positive that only the second query's list holds."""
    rows = [dict(row) for row in lists.rows]
    elsewhere = next(name for name in rows[1]["document_ids"] if name not in rows[0]["document_ids"])
    for i, row in enumerate(rows):
        row["positive_ids"] = [elsewhere] if i == 0 else []
    lists.rows = lists.rows.from_list(rows)
    return elsewhere


@pytest.mark.parametrize("options", [{"in_batch_negatives": True}, {"uniform_negatives": 40}], ids=str)
def test_no_query_gets_its_own_documents_or_known_positives_as_negatives(options, lists, tmp_path):
    """A draw of the whole collection holds everything that must be left out."""
    elsewhere = positives_elsewhere(lists)
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, **options)
    plain = tiny.batch(lists)
    batch = trainer.augment(dict(plain))
    names = lists.documents.ids
    in_batch = {name for row in lists.rows for name in row["document_ids"]}
    columns = plain["document_index"].shape[1]
    for row, index in zip(lists.rows, batch["document_index"][:, columns:], strict=True):
        added = [names[key] for key in batch["document_keys"][index[index >= 0]].tolist()]
        pool = in_batch if "in_batch_negatives" in options else set(names)
        assert len(added) == len(set(added))
        assert set(added) == pool - set(row["document_ids"]) - set(row["positive_ids"])
    assert elsewhere in in_batch
    for name in ("labels", "teacher_scores", "mask"):
        torch.testing.assert_close(batch[name][:, :columns], plain[name], equal_nan=True)


def test_uniform_negatives_change_with_every_batch_and_not_with_the_run(lists, tmp_path):
    def draws(seed):
        trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, uniform_negatives=4, seed=seed)
        drawn = [trainer.draw_share(), trainer.draw_share()]  # two micro-batches of a step
        trainer.state.global_step += 1
        return [*drawn, trainer.draw_share()]

    assert draws(0) == draws(0) != draws(1)
    assert len({tuple(draw) for draw in draws(0)}) == 3
