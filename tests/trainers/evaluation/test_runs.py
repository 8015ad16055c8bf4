import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.data import Collection, DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import check_collection, is_trec_run, read_run, without_identical, write_run


def test_the_file_is_trec_format_best_first(tmp_path):
    write_run(tmp_path / "run.trec", {"q1": {"a": 0.25, "b": 1.5}, "q2": {"c": -1.0}}, "de")
    assert (tmp_path / "run.trec").read_text() == "q1 Q0 b 1 1.5 de\nq1 Q0 a 2 0.25 de\nq2 Q0 c 1 -1.0 de\n"


@settings(deadline=None)
@given(st.dictionaries(st.text("aé1", min_size=1), st.floats(allow_nan=False), min_size=1))
def test_scores_survive_to_the_last_bit(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("runs") / "run.trec"
    write_run(path, {"q": scores}, "tag")
    assert read_run(path) == {"q": scores}


@pytest.mark.parametrize("run", [{"a b": {"d": 1.0}}, {"q": {"a\tb": 1.0}}, {"q": {"": 1.0}}])
def test_ids_with_white_space_are_refused_and_leave_no_file(tmp_path, run):
    with pytest.raises(InputError, match="white space"):
        write_run(tmp_path / "run.trec", run, "tag")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_previous_run(tmp_path):
    write_run(tmp_path / "run.trec", {"q": {"d": 1.0}}, "tag")
    with pytest.raises(InputError, match="document d is NaN"):
        write_run(tmp_path / "run.trec", {"p": {"d": 2.0}, "q": {"d": float("nan")}}, "tag")
    assert read_run(tmp_path / "run.trec") == {"q": {"d": 1.0}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 d 1 0.5", "line 2: expected the six columns"),
        ("q Q0 d 1 high tag", "line 2: expected a number as the score, got 'high'"),
        ("q Q0 d 1 nan tag", "line 2: expected a number"),
        ("q Q0 first 2 0.1 tag", "line 2: document 'first' occurs twice for query 'q'"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, message):
    path = tmp_path / "bad.trec"
    path.write_text(f"q Q0 first 1 1.0 tag\n{line}\n")
    with pytest.raises(InputError, match=f"bad.trec, {message}"):
        read_run(path)


def test_a_missing_an_empty_and_a_binary_file_are_refused(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "empty", "binary", "."):
        with pytest.raises(InputError):
            read_run(tmp_path / name)


def test_a_run_is_told_from_other_files(tmp_path):
    path = tmp_path / "file"
    for text, expected in [("q Q0 d 1 0.5 t\n", True), ("q Q0 d 1 x t\n", False), ("q\td\t1\n", False), ("", False)]:
        path.write_text(text)
        assert is_trec_run(path) is expected
    assert not is_trec_run(tmp_path)


def test_no_query_is_its_own_hit_and_the_next_best_takes_the_place():
    run = {"q": {"a": 1.0, "q": 9.0, "b": 3.0, "c": 2.0}, "p": {"p": 2.0, "a": 1.0}}
    assert without_identical(run, {"q"}, 2) == {"q": {"b": 3.0, "c": 2.0}, "p": {"p": 2.0, "a": 1.0}}


def test_ids_of_a_collection_that_no_run_can_hold_are_named():
    documents = DocumentTable.from_texts(["a", "New York"], ["A", "B"])
    with pytest.raises(InputError, match="document id 'New York' cannot be written to a TREC run file"):
        check_collection(Collection("places", documents, {"q": "?"}, {}))
    with pytest.raises(InputError, match="query id '' cannot be written"):
        check_collection(Collection("places", documents, {"": "?"}, {}))
    check_collection(Collection("places", DocumentTable.from_texts(["a"], ["A"]), {"q": "?"}, {}))
