import pytest

from m3se.trainers.data.readers.trec import is_trec_run, read_qrels, read_ranked, read_run
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


@pytest.mark.parametrize(
    "text",
    [
        "q1 Q0 a 0 1.0 x\nq1 Q0 b 0 9.0 x\nq1 Q0 c 0 3.0 x\nq2 Q0 a 0 1 x\n",  # every rank is 0
        "q1 Q0 a 1 1.0 x\nq1 Q0 b 2 9.0 x\nq1 Q0 c 3 3.0 x\nq2 Q0 a 1 1 x\n",  # ranks are those of the lines
        "q1 Q0 a 3 1.0 x\nq1 Q0 b 1 9.0 x\nq1 Q0 c 2 3.0 x\nq2 Q0 a 1 1 x\n",  # sorted by document id
        "q1 Q0 b 1 9.0 x\nq2 Q0 a 1 1 x\nq1 Q0 c 2 3.0 x\nq1 Q0 a 3 1.0 x\n",  # queries mixed
        "q1\tc\t2\nq1\tb\t1\nq1\ta\t3\nq2\ta\t1\n",  # no scores: by rank
        "q1 Q0 c 2 5 x\nq1 Q0 b 1 5 x\nq1 Q0 a 3 5 x\nq2 Q0 a 1 1 x\n",  # equal scores: by rank
    ],
)
def test_a_run_is_ranked_by_score_then_by_rank_whatever_the_order_of_its_lines(file, text):
    file.write_text(text)
    assert list(read_ranked(file)) == [("q1", "b"), ("q1", "c"), ("q1", "a"), ("q2", "a")]
    if "Q0" in text:
        assert [list(scores) for scores in read_run(file).values()] == [["b", "c", "a"], ["a"]]


def test_scores_are_compared_to_the_last_bit(file):
    file.write_text(f"q Q0 a 1 {1.0!r} x\nq Q0 b 2 {1.0 + 2**-52!r} x\n")
    assert list(read_ranked(file)) == [("q", "b"), ("q", "a")]


def test_a_run_that_does_not_say_which_document_is_better_is_refused(file):
    file.write_text("q1 Q0 a 1 2.0 x\nq2 Q0 a 0 1.0 x\nq2 Q0 b 0 1.0 x\n")
    for read in (read_run, lambda file: list(read_ranked(file))):
        with pytest.raises(InputError, match="all 2 documents of query 'q2' have rank 0 and the same score"):
            read(file)
    file.write_text("q1\ta\t0\nq1\tb\t0\n")
    with pytest.raises(InputError, match="expected scores or ranks that say which is best"):
        list(read_ranked(file))


def test_a_line_of_top1000_is_no_run(file):
    file.write_text("7\t12\thow tall\t5 feet\n")
    assert not is_trec_run(file)
