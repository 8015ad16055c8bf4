from hashlib import blake2b

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.data import documents as module
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.errors import InputError


@pytest.fixture
def table():
    return DocumentTable.from_texts(["7", "07", "b"], ["seven", "zero seven", "bee"])


def test_texts_come_in_the_order_asked_for_and_may_repeat(table):
    assert table.texts(["b", "7", "b"]) == ["bee", "seven", "bee"]
    assert table.positions(["b", "7", "b"]).tolist() == [2, 0, 2]
    assert table.positions(["b"]).dtype == np.int64
    assert table.texts([]) == []


def test_ids_that_look_like_numbers_stay_different_strings(table):
    assert table.texts(["07", "7"]) == ["zero seven", "seven"]


def test_an_unknown_id_is_an_input_error_that_names_it(table):
    with pytest.raises(InputError, match=r"'c' \(2 of 3 ids are unknown\)"):
        table.texts(["7", "c", "d"])
    assert "c" not in table and "b" in table
    assert table.missing(["c", "b", "d"]) == ["c", "d"]


def test_ids_are_all_ids_in_order(table):
    assert list(table.ids) == ["7", "07", "b"] and len(table) == 3


def test_all_rows_come_in_order_some_at_a_time(table, tmp_path):
    expected = [(["7", "07"], ["seven", "zero seven"]), (["b"], ["bee"])]
    assert list(table.batches(2)) == expected
    table.save(tmp_path / "table")
    assert list(DocumentTable.load(tmp_path / "table").batches(2)) == expected


def test_a_part_of_a_data_set_is_a_table_of_its_own():
    rows = Dataset.from_dict({"id": ["a", "b", "c", "d"], "text": ["A", "B", "C", "D"]}).select([3, 1, 0])
    table = DocumentTable(rows)
    assert table.texts(["a", "d"]) == ["A", "D"] and "c" not in table and table.ids_at([0, 1]) == ["d", "b"]
    assert table.fingerprint == DocumentTable.from_texts(["d", "b", "a"], ["D", "B", "A"]).fingerprint


def test_ids_whose_hashes_collide_are_told_apart(monkeypatch):
    monkeypatch.setattr(module, "xxh3_64_intdigest", lambda id_: len(id_))
    table = DocumentTable.from_texts(["a", "bb", "c", "d"], ["A", "BB", "C", "D"])
    assert table.texts(["d", "c", "bb", "a"]) == ["D", "C", "BB", "A"]
    assert table.missing(["e", "c", "ee", "eee"]) == ["e", "ee", "eee"]


def test_an_id_that_occurs_twice_is_refused():
    with pytest.raises(InputError, match="'a' occurs more than once"):
        DocumentTable.from_texts(["a", "b", "a"], ["x", "y", "z"])


def test_a_repeated_id_is_found_between_ids_of_the_same_hash(monkeypatch):
    monkeypatch.setattr(module, "xxh3_64_intdigest", lambda id_: len(id_))
    with pytest.raises(InputError, match="'a' occurs more than once"):
        DocumentTable.from_texts(["a", "b", "a"], ["x", "y", "z"])


def test_a_saved_table_is_the_same_table(table, tmp_path):
    table.save(tmp_path / "table")
    loaded = DocumentTable.load(tmp_path / "table")
    assert loaded.texts(["b", "07"]) == ["bee", "zero seven"]
    assert loaded.fingerprint == table.fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["table"]


def test_a_folder_that_is_no_table_is_named(tmp_path):
    with pytest.raises(InputError, match="documents.json is missing"):
        DocumentTable.load(tmp_path)


def test_the_fingerprint_is_that_of_any_process_and_machine(table):
    lengths = [np.array(some, dtype="<i8").tobytes() for some in ([1, 2, 1], [5, 10, 3])]
    parts = [lengths[0], b"707b", lengths[1], b"sevenzero sevenbee"]
    digests = b"".join(blake2b(part, digest_size=16).digest() for part in parts)
    assert table.fingerprint == blake2b(digests, digest_size=16).hexdigest()
    assert table.fingerprint == "da271ae018bee8e47caf96ba80eb5c97"


def test_the_fingerprint_depends_on_where_an_id_ends():
    assert DocumentTable.from_texts(["ab"], ["c"]).fingerprint != DocumentTable.from_texts(["a"], ["bc"]).fingerprint


@settings(max_examples=30)
@given(st.dictionaries(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text(max_size=3), max_size=20))
def test_every_id_finds_its_own_text(texts):
    texts = {id_: text.encode("utf-8", "ignore").decode() for id_, text in texts.items()}
    table = DocumentTable.from_texts(list(texts), list(texts.values()))
    assert table.texts(list(texts)) == list(texts.values())
