import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.schema import ROW_FEATURES, Collection, RankingLists, hash_subset
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.storage.atomic import complete_folder


ROWS = [
    {"query_id": "1", "query": "one", "document_ids": ["a", "b"], "labels": [1.0, 0.0]},
    {"query_id": "2", "query": "two", "document_ids": ["b"], "labels": [2.0]},
]


@pytest.fixture
def lists():
    table = DocumentTable.from_texts(["a", "b"], ["A", "B"])
    return RankingLists(write_rows(ROWS, ROW_FEATURES), table, {"rows": 2})


def test_saved_lists_come_back_with_rows_documents_and_report(lists, tmp_path):
    lists.save(tmp_path / "lists")
    loaded = RankingLists.load(tmp_path / "lists")
    assert loaded.rows.to_list() == ROWS and loaded.report == {"rows": 2}
    assert loaded.documents.texts(["b"]) == ["B"]


def test_a_folder_of_lists_has_one_owner_and_one_file_of_checksums(lists, tmp_path):
    lists.save(tmp_path / "lists")
    sums = [path.relative_to(tmp_path / "lists").as_posix() for path in tmp_path.rglob("SHA256SUMS")]
    assert sums == ["SHA256SUMS"]
    (tmp_path / "lists" / "documents" / "table.arrow").write_bytes(b"harmed")
    with pytest.raises(InputError, match="documents/table.arrow is not what was written"):
        RankingLists.load(tmp_path / "lists")


def test_lists_are_replaced_by_saving_again(lists, tmp_path):
    lists.save(tmp_path / "lists")
    RankingLists(lists.rows.select([1]), lists.documents).save(tmp_path / "lists")
    assert RankingLists.load(tmp_path / "lists").rows.to_list() == ROWS[1:]
    assert [folder.name for folder in tmp_path.iterdir()] == ["lists"]


def test_a_folder_of_something_else_is_not_overwritten(lists, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="does not hold ranking lists"):
        lists.save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_loading_names_what_is_missing(lists, tmp_path):
    with pytest.raises(InputError, match="nowhere: not a folder of ranking lists: . is missing"):
        RankingLists.load(tmp_path / "nowhere")
    lists.save(tmp_path / "lists")
    (tmp_path / "lists" / "rows.arrow").unlink()
    with pytest.raises(InputError, match="rows.arrow is missing"):
        RankingLists.load(tmp_path / "lists")


NAMES = st.sets(st.text(min_size=1, max_size=4))


@given(NAMES, NAMES, st.integers(0, 5), st.none() | st.integers(0, 8))
def test_names_that_come_first_are_all_taken_before_any_other(first, others, skip, count):
    others -= first
    chosen = hash_subset(first | others, count, skip, first)
    left = hash_subset(first, None, skip)
    assert chosen & first == hash_subset(first, count, skip)
    rest = None if count is None else count - len(chosen & first)
    assert chosen - first == hash_subset(others, rest, max(0, skip - len(first)))
    assert not chosen - first or left <= chosen


def test_labelled_lists_are_taken_before_the_others():
    rows = []
    for number in range(40):
        rows.append({"query_id": str(number), "query": "", "document_ids": ["a", "b"], "labels": [0, number % 4 == 0]})
    rows.append(rows[0] | {"query_id": "synthetic-title:a"})  # nobody's judgment
    lists = RankingLists(write_rows(rows, ROW_FEATURES), DocumentTable.from_texts(["a", "b"], ["A", "B"]))
    labelled = {str(number) for number in range(0, 40, 4)}
    assert lists.labelled() == labelled
    assert set(lists.first(4).rows["query_id"]) == hash_subset(labelled, 4)
    taken = lists.first(15).rows["query_id"][:]
    assert labelled < set(taken) and len(taken) == 15
    assert taken == [query for query in lists.rows["query_id"] if query in taken]
    assert lists.first(None) is lists


def test_rows_are_streamed_to_a_file_that_appears_when_complete(tmp_path):
    def rows():
        yield ROWS[0]
        assert not (tmp_path / "rows.arrow").exists()
        yield ROWS[1]

    assert write_rows(rows(), ROW_FEATURES, tmp_path / "rows.arrow").to_list() == ROWS


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def rows():
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(rows(), ROW_FEATURES, tmp_path / "rows.arrow")
    with pytest.raises(KeyboardInterrupt), complete_folder(tmp_path / "folder"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_that_prepare_the_same_the_first_one_stays(tmp_path):
    with complete_folder(tmp_path / "cache", replace=False) as first:
        (first / "by").write_text("the slower one")
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "by").write_text("the faster one")
    assert (tmp_path / "cache" / "by").read_text() == "the faster one"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_collection_of_some_queries_keeps_their_order_and_leaves_the_whole_one_alone():
    table = DocumentTable.from_texts(["a"], ["A"])
    whole = Collection("three", table, {"3": "c", "1": "a", "2": "b"}, {"1": {"a": 1.0}}, {"format": "x"})
    part = whole.only({"2", "3", "unknown"})
    assert list(part.queries.items()) == [("3", "c"), ("2", "b")]
    assert part.documents is table and part.qrels == whole.qrels and part.report == whole.report
    assert list(whole.queries) == ["3", "1", "2"]
