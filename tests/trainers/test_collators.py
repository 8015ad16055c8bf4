import torch

from m3se import RankingCollator
from m3se.trainers.data import DocumentTable
from tests.worlds import tiny


ROWS = [
    {"query_id": "a", "query": "red tree", "document_ids": ["d1", "d0", "d2"], "labels": [1.0, 0.0, 2.0],
     "teacher_scores": [3.0, -1.0, 0.5], "positive_ids": ["d3"]},
    {"query_id": "b", "query": "blue", "document_ids": ["d0"], "labels": [1.0], "teacher_scores": [2.0],
     "positive_ids": []},
]  # fmt: skip
TEXTS = {"d0": "stone bird", "d1": "river", "d2": "fish fish fish fish", "d3": "never in a list"}


def collate(rows, **lengths):
    table = DocumentTable.from_texts(list(TEXTS), list(TEXTS.values()))
    return RankingCollator(tiny.tokenizer(), table, **tiny.LENGTHS | lengths)(rows)


def decoded(ids, mask):
    return [tiny.tokenizer().decode(row[keep.bool()]) for row, keep in zip(ids, mask, strict=True)]


def test_every_distinct_document_is_tokenised_once():
    batch = collate(ROWS)
    texts = decoded(batch["document_input_ids"], batch["document_attention_mask"])
    assert texts == [f"[CLS] {TEXTS[name]} [SEP]" for name in ("d1", "d0", "d2")]
    assert batch["document_index"].tolist() == [[0, 1, 2], [1, -1, -1]]
    assert batch["document_keys"].tolist() == [1, 0, 2]


def test_shorter_lists_are_filled_with_nothing():
    batch = collate(ROWS)
    assert batch["mask"].tolist() == [[True, True, True], [True, False, False]]
    assert batch["labels"].tolist() == [[1, 0, 2], [1, 0, 0]]
    assert batch["teacher_scores"][0].tolist() == [3.0, -1.0, 0.5]
    assert batch["teacher_scores"][1].isnan().tolist() == [False, True, True]
    assert batch["labels"].dtype == batch["teacher_scores"].dtype == torch.float32


def test_known_positives_outside_the_list_are_the_querys_own():
    own = collate(ROWS)["own_keys"]
    assert own.tolist() == [[1, 0, 2, 3], [0, -1, -1, -1]]


def test_rows_without_teacher_scores_or_known_positives_are_read():
    rows = [{k: v for k, v in row.items() if k not in ("teacher_scores", "positive_ids")} for row in ROWS]
    batch = collate(rows)
    assert batch["teacher_scores"].isnan().all()
    assert batch["own_keys"].tolist() == [[1, 0, 2], [0, -1, -1]]


def test_texts_are_cut_to_the_length_of_their_side():
    batch = collate(ROWS, query_length=3, document_length=5)
    assert decoded(batch["query_input_ids"], batch["query_attention_mask"]) == ["[CLS] red [SEP]", "[CLS] blue [SEP]"]
    assert batch["document_input_ids"].shape == (3, 5)
    assert decoded(batch["document_input_ids"], batch["document_attention_mask"])[2] == "[CLS] fish fish fish [SEP]"


def test_a_batch_is_no_wider_than_its_longest_text():
    batch = collate(ROWS)
    assert batch["query_input_ids"].shape == (2, 4)
    assert batch["document_input_ids"].shape == (3, 6)


def test_query_ids_name_the_rows():
    assert collate(ROWS)["query_ids"] == ["a", "b"]


def test_the_students_tokeniser_is_used_whatever_the_teachers_was():
    other = tiny.tokenizer(list(reversed(tiny.WORDS)))
    table = DocumentTable.from_texts(list(TEXTS), list(TEXTS.values()))
    batch = RankingCollator(other, table, **tiny.LENGTHS)(ROWS)
    assert other.decode(batch["query_input_ids"][0]) == "[CLS] red tree [SEP]"
    assert batch["query_input_ids"].tolist() != collate(ROWS)["query_input_ids"].tolist()
