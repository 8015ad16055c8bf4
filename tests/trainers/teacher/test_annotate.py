"""Every pair of the lists gets its teacher's score, computed once, whatever happens in between."""

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.data.schema import ROW_FEATURES
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.teacher.annotate import ProcessShare, annotate, distinct_keys, fill_cache, row_blocks
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds.teachers import save_classifier, save_cross_encoder, save_roberta, tiny_lists


annotation = import_module("m3se.trainers.teacher.annotate")  # its package gives the function this name


class LengthTeacher:
    """A score that can be computed by hand, and a record of the pairs that were asked for."""

    def __init__(self, fingerprint="length", chunk_pairs=4, offset=0.0, scale="length"):
        self.name = f"teacher-{fingerprint}"
        self.fingerprint = fingerprint
        self.chunk_pairs = chunk_pairs
        self.dtype = torch.float32
        self.settings = {}
        self.scale = scale
        self.offset = offset
        self.calls = []

    def score(self, queries, documents, bar=None):
        self.calls.append(list(zip(queries, documents, strict=True)))
        return np.array([self.one(*pair) for pair in self.calls[-1]], dtype=np.float32)

    def one(self, query, document):
        return len(query) - len(document) / 8 + self.offset


def expected_scores(lists, teacher):
    return [
        [teacher.one(row["query"], text) for text in lists.documents.texts(row["document_ids"])] for row in lists.rows
    ]


def make_lists(rows, texts):
    """Rows given as (query, document ids); every first document is the positive."""
    rows = [
        {"query_id": f"q{n}", "query": query, "document_ids": ids, "labels": [float(i == 0) for i in range(len(ids))]}
        for n, (query, ids) in enumerate(rows)
    ]
    return RankingLists(write_rows(rows, ROW_FEATURES), DocumentTable.from_texts(list(texts), list(texts.values())))


@pytest.fixture
def scored_pairs():
    return lambda teacher: [pair for call in teacher.calls for pair in call]


def test_every_pair_of_ragged_lists_gets_its_score(tmp_path):
    lists, teacher = tiny_lists(), LengthTeacher()
    annotated = annotate(lists, [teacher], tmp_path)
    assert annotated.rows["teacher_scores"][:] == expected_scores(lists, teacher)
    assert annotated.rows.select_columns(lists.rows.column_names)[:] == lists.rows[:]
    assert "teacher_scores_0" not in annotated.rows.column_names


def test_annotated_lists_are_saved_and_opened_with_the_same_scores(tmp_path):
    annotated = annotate(tiny_lists(), [LengthTeacher(), LengthTeacher("b")], tmp_path / "cache")
    annotated.save(tmp_path / "lists")
    assert RankingLists.load(tmp_path / "lists").rows[:] == annotated.rows[:]


def test_real_teachers_with_three_tokenisers_give_their_mean(tmp_path):
    folders = [
        save_cross_encoder(tmp_path / "ours"),
        save_classifier(tmp_path / "bert", seed=1),
        save_roberta(tmp_path / "roberta"),
    ]
    teachers = [PairScorer.from_pretrained(folder, dtype="float32") for folder in folders]
    lists = tiny_lists()
    rows = annotate(lists, teachers, tmp_path / "cache").rows
    queries = [row["query"] for row in lists.rows for _ in row["document_ids"]]
    documents = lists.documents.texts([document for row in lists.rows for document in row["document_ids"]])
    columns = [teacher.score(queries, documents) for teacher in teachers]
    for number, column in enumerate(columns):
        np.testing.assert_allclose(np.concatenate(rows[f"teacher_scores_{number}"][:]), column, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(rows["teacher_scores"][:]), np.mean(columns, axis=0), atol=1e-5)


def test_a_second_run_asks_the_teacher_nothing(tmp_path, scored_pairs):
    lists = tiny_lists()
    first = annotate(lists, [LengthTeacher()], tmp_path)
    again = LengthTeacher(offset=100.0)
    assert annotate(lists, [again], tmp_path).rows[:] == first.rows[:]
    assert scored_pairs(again) == []


def test_only_changed_texts_are_scored_again(tmp_path, scored_pairs):
    texts = {"a": "one", "b": "two", "c": "three"}
    annotate(make_lists([("x", ["a", "b"]), ("y", ["b", "c"])], texts), [LengthTeacher()], tmp_path)
    again = LengthTeacher()
    annotate(make_lists([("x", ["a", "b"]), ("y", ["b", "c"])], texts | {"b": "other"}), [again], tmp_path)
    assert scored_pairs(again) == [("x", "other"), ("y", "other")]


def test_scores_follow_the_text_not_the_id(tmp_path, scored_pairs):
    annotate(make_lists([("x", ["a", "b"])], {"a": "one", "b": "two"}), [LengthTeacher()], tmp_path)
    again = LengthTeacher()
    renamed = make_lists([("x", ["2", "1"])], {"1": "one", "2": "two"})
    assert annotate(renamed, [again], tmp_path).rows["teacher_scores"][:] == expected_scores(renamed, again)
    assert scored_pairs(again) == []


def test_a_pair_that_occurs_twice_is_scored_once(tmp_path, scored_pairs):
    lists = make_lists([("x", ["a", "b"]), ("x", ["b", "a"]), ("y", ["a"])], {"a": "one", "b": "twelve"})
    teacher = LengthTeacher(chunk_pairs=2)
    assert annotate(lists, [teacher], tmp_path).rows["teacher_scores"][:] == expected_scores(lists, teacher)
    assert scored_pairs(teacher) == [("x", "one"), ("x", "twelve"), ("y", "one")]


def test_an_empty_list_stays_empty(tmp_path):
    lists = make_lists([("x", ["a"]), ("y", []), ("z", ["a"])], {"a": "one"})
    rows = annotate(lists, [LengthTeacher()], tmp_path).rows
    assert rows["teacher_scores"][:] == [[0.625], [], [0.625]]


def test_earlier_scores_are_replaced(tmp_path):
    lists = annotate(tiny_lists(), [LengthTeacher(), LengthTeacher("b")], tmp_path)
    teacher = LengthTeacher("c", offset=2.0)
    rows = annotate(lists, [teacher], tmp_path).rows
    assert rows["teacher_scores"][:] == expected_scores(lists, teacher)
    assert [name for name in rows.column_names if name.startswith("teacher")] == ["teacher_scores"]


def test_selected_rows_get_their_own_scores(tmp_path):
    lists, teacher = tiny_lists(), LengthTeacher()
    expected = expected_scores(lists, teacher)
    lists.rows = lists.rows.select([4, 1])
    assert annotate(lists, [teacher], tmp_path).rows["teacher_scores"][:] == [expected[4], expected[1]]


class Interrupted(LengthTeacher):
    """Stops when asked for one call too many."""

    def __init__(self, calls, **options):
        super().__init__(**options)
        self.left = calls

    def score(self, queries, documents, bar=None):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().score(queries, documents)


@pytest.mark.parametrize("calls", range(7))
def test_a_run_that_goes_on_forms_the_batches_of_one_that_was_left_alone(tmp_path, calls):
    lists, alone = tiny_lists(), LengthTeacher()
    expected = annotate(lists, [alone], tmp_path / "alone").rows[:]
    first, second = Interrupted(calls), LengthTeacher()
    if calls < len(alone.calls):
        with pytest.raises(KeyboardInterrupt):
            annotate(lists, [first], tmp_path / "interrupted", shard_seconds=1000.0)
    else:
        annotate(lists, [first], tmp_path / "interrupted")
    assert annotate(lists, [second], tmp_path / "interrupted").rows[:] == expected
    assert first.calls + second.calls == alone.calls


@pytest.mark.parametrize("world_size", [1, 2, 3, 9])
def test_processes_score_every_pair_once_in_the_batches_of_a_single_one(tmp_path, world_size):
    lists, alone = tiny_lists(), LengthTeacher()
    annotate(lists, [alone], tmp_path / "alone")
    teachers = [LengthTeacher() for _ in range(world_size)]
    for rank, teacher in enumerate(teachers):
        fill_cache(lists, [teacher], tmp_path / "shared", ProcessShare(rank, world_size))
        assert teacher.calls == alone.calls[rank::world_size]
    last = LengthTeacher()
    annotate(lists, [last], tmp_path / "shared")
    assert last.calls == []


def test_blocks_do_not_change_the_scores(tmp_path, monkeypatch):
    lists, teacher = tiny_lists(), LengthTeacher()
    monkeypatch.setattr(annotation, "BLOCK_PAIRS", 7)
    monkeypatch.setattr(annotation, "HASHED_AT_ONCE", 3)
    assert annotate(lists, [teacher], tmp_path).rows["teacher_scores"][:] == expected_scores(lists, teacher)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused_with_its_pair(tmp_path, value):
    teacher = LengthTeacher(offset=value)
    with pytest.raises(InputError, match=f"teacher-length gives {value} for the query 'x' and the document 'a'"):
        annotate(make_lists([("x", ["a"])], {"a": "one"}), [teacher], tmp_path)
    assert list(tmp_path.glob("*/*.scores")) == []


def test_an_unknown_document_is_named(tmp_path):
    with pytest.raises(InputError, match="unknown document id 'b'"):
        annotate(make_lists([("x", ["a", "b"])], {"a": "one"}), [LengthTeacher()], tmp_path)


def test_no_teacher_is_refused(tmp_path):
    with pytest.raises(InputError, match="no teacher"):
        annotate(tiny_lists(), [], tmp_path)


def test_a_teacher_given_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="teacher-length is given twice"):
        annotate(tiny_lists(), [LengthTeacher(), LengthTeacher()], tmp_path)


def test_the_report_names_teachers_but_no_folder_of_this_machine(tmp_path):
    teacher = PairScorer.from_pretrained(save_cross_encoder(tmp_path / "my-teacher"), dtype="float32")
    report = annotate(tiny_lists(), [teacher], tmp_path / "cache").report
    (entry,) = report["teachers"]
    assert entry["name"] == "my-teacher"
    assert entry["fingerprint"] == teacher.fingerprint
    assert (entry["query_length"], entry["document_length"], entry["dtype"]) == (8, 20, "float32")
    assert str(tmp_path) not in str(report)


@given(st.lists(st.binary(min_size=16, max_size=16) | st.sampled_from([b"\0" * 16, b"\1" + b"\0" * 15]), min_size=1))
def test_distinct_keys_lead_back_to_all_pairs(keys):
    array = np.frombuffer(b"".join(keys), dtype="S16")
    unique, slots, origins = distinct_keys(array)
    assert unique.tolist() == sorted(set(array.tolist()))
    assert (unique[slots] == array).all()
    assert origins.tolist() == [array.tolist().index(key) for key in unique.tolist()]


@settings(max_examples=200)
@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_blocks_of_rows_hold_all_pairs_in_order_and_no_more_than_allowed(sizes, pairs):
    blocks = list(row_blocks(np.array(sizes, dtype=np.int64), pairs))
    assert [size for block in blocks for size in sizes[block.start : block.stop] if size] == [s for s in sizes if s]
    for block in blocks:
        held = sum(sizes[block.start : block.stop])
        assert held > 0
        assert held <= pairs or len(block) == 1


def test_a_teacher_that_cannot_tell_documents_apart_is_stopped_at_its_first_chunk(tmp_path):
    lists = tiny_lists(queries=40)
    teacher = LengthTeacher(chunk_pairs=32)
    teacher.one = lambda query, document: 1.5
    with pytest.raises(InputError, match="teacher-length gives 1.5 to each of 32 pairs; it ranks nothing"):
        annotate(lists, [teacher], tmp_path, progress=False)
    assert len(teacher.calls) == 1
