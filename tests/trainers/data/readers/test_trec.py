import pytest

from m3se.trainers.data.readers.trec import read_qrels, read_ranked
from m3se.trainers.errors import InputError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


def test_judgments_of_trec_and_beir_are_read_alike(file):
    file.write_text("q1 0 01 2\nq1\t0\t1\t0\n\nq2 Q0 d -1\n")
    assert read_qrels(file) == {"q1": {"01": 2.0, "1": 0.0}, "q2": {"d": -1.0}}
    file.write_text("query-id\tcorpus-id\tscore\r\nq1\t01\t2\r\nq1\t1\t0\r\n")
    assert read_qrels(file) == {"q1": {"01": 2.0, "1": 0.0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q d\n", "line 1: expected 'query 0 document grade' or 'query document grade', got 'q d'"),
        ("q 0 d 1\nq 0 e high\n", "line 2: expected a grade, got 'high'"),
        ("q 0 d nan\n", "line 1: expected a grade, got 'nan'"),
        ("q 0 d 1\nq 0 e 1\nq 0 d 2\n", "line 3: document 'd' of query 'q' is graded 2 here and 1 before"),
    ],
)
def test_bad_judgments_are_located(file, text, message):
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_qrels(file)


def test_a_judgment_given_twice_counts_once(file):
    file.write_text("q 0 d 1\nq 0 d 1\n")
    assert read_qrels(file) == {"q": {"d": 1.0}}


def test_runs_of_trec_and_ms_marco_are_read_in_their_order(file):
    file.write_text("q1 Q0 9 1 3.5 bm25\nq1 Q0 07 2 3.5 bm25\n")
    assert list(read_ranked(file)) == [("q1", "9"), ("q1", "07")]
    file.write_text("q1\t9\t1\nq1\t07\t2\n")
    assert list(read_ranked(file)) == [("q1", "9"), ("q1", "07")]


def test_bad_run_lines_are_located(file):
    file.write_text("q1 Q0 9 1 3.5 bm25\nq1 Q0 9 1 3.5\n")
    with pytest.raises(
        InputError, match="line 2: expected 'query Q0 document rank score tag' or 'query document rank'"
    ):
        list(read_ranked(file))
    file.write_text("q1 9 first\n")
    with pytest.raises(InputError, match="line 1: expected a rank, got 'first'"):
        list(read_ranked(file))


def test_a_run_whose_ranks_fall_is_refused_where_they_do(file):
    file.write_text("q1 Q0 9 1 3.5 x\nq2 Q0 9 1 3.5 x\nq1 Q0 7 3 1.5 x\nq1 Q0 8 2 2.5 x\n")
    with pytest.raises(InputError, match="line 4: rank 2 of query 'q1' comes after its rank 3; .* best first"):
        list(read_ranked(file))
