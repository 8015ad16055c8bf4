import pytest

from m3se.trainers.backends.samples import document_sample, halves, held_out_lists, list_sample
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.data.schema import hash_subset
from m3se.trainers.errors import InputError
from tests.worlds import tiny


def numbered(count: int) -> DocumentTable:
    texts = [" ".join([str(number)] * 10) for number in range(count)]
    return DocumentTable.from_texts([f"d{number}" for number in range(count)], texts)


def test_documents_are_drawn_once_each_and_open_their_own_queries():
    sample = document_sample(numbered(1000))
    assert [len(documents) for _, documents in sample] == [8] * 32
    texts = sum((documents for _, documents in sample), [])
    assert len(set(texts)) == 256
    for query, documents in sample:
        assert query.split() == documents[0].split()[:8]
    assert sample == document_sample(numbered(1000))
    calibration, held_out = halves(sample)
    assert [*calibration, *held_out] == sample and len(calibration) == len(held_out)


def test_a_small_collection_is_split_in_two():
    assert [len(documents) for _, documents in document_sample(numbered(5))] == [2, 2]
    with pytest.raises(InputError, match="int8: expected at least 4 documents .*, got 3"):
        document_sample(numbered(3))


def test_lists_give_documents_from_all_their_ranks():
    documents = numbered(40)
    row = {"query_id": "q", "query": "a", "document_ids": list(documents.ids), "labels": [1.0] + [0.0] * 39}
    lists = RankingLists(tiny.ranking_lists(2).rows.from_list([row, row | {"query_id": "r"}]), documents)
    (query, texts), _ = list_sample(lists)
    assert query == "a" and [text.split()[0] for text in texts] == ["0", "5", "10", "15", "20", "25", "30", "35"]


def test_more_of_the_same_queries_begin_with_the_same_sample():
    lists = tiny.ranking_lists(60)
    chosen = hash_subset(lists.rows["query_id"][:], 40)
    numbers = [number for number, row in enumerate(lists.rows) if row["query_id"] in chosen]
    part = RankingLists(lists.rows.select(numbers), lists.documents)
    assert list_sample(part) == list_sample(lists)
    calibration, held_out = halves(list_sample(lists))
    assert [row["query"] for row in held_out_lists(lists, 16).rows] == [query for query, _ in held_out]


def test_one_list_cannot_be_calibrated_and_measured_on():
    with pytest.raises(InputError, match="at least 2 lists of 2 documents or more .*, got 1 of at most 4"):
        list_sample(tiny.ranking_lists(1))
