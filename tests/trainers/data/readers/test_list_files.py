import math

import pytest

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.readers.list_files import detect_format, read_list_file, write_scored_triples
from m3se.trainers.data.schema import ROW_FEATURES, SCORED_ROW_FEATURES, RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


SCORED = "3.5\t-1.25\t7\t01\t2\n3.5\t0.5\t7\t01\t3\n"
TRIPLES = "7\t01\t20001\n7\t01\t3\n8\t2\t1\n"


def read_pairs(file, stated="auto"):
    """Read the pairs of a file of lists."""
    return read_list_file(file, stated)[0].read()


def plain(pairs):
    return [(*pair[:3], None if math.isnan(pair.score) else pair.score) for pair in pairs]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("run.trec", "7 Q0 01 1 12.5 bm25\n7 Q0 2 2 3.5 bm25\n", "run"),
        ("run.tsv", "7\t01\t1\n7\t2\t2\n7\t3\t3\n8\t1\t1\n", "run"),
        ("one.tsv", "7\t01\t1\n", "run"),
        ("from_0.tsv", "7\t01\t0\n7\t2\t1\n8\t1\t0\n", "run"),
        ("first_query_of_one.tsv", "7\t01\t1\n8\t2\t1\n8\t1\t2\n8\t3\t3\n", "run"),
        ("in_turns.tsv", "7\t01\t1\n8\t2\t1\n7\t2\t2\n8\t3\t2\n", "run"),
        ("named.tsv", "7\td1\td2\n8\td2\td1\n", "triples"),
        ("late.tsv", "7\t01\t1\n7\t2\t2\n7\t3\td4\n", "triples"),
        ("late_repetition.tsv", "7\t01\t1\n7\t2\t2\n8\t1\t9\n8\t1\t70001\n", "triples"),
        ("colbert.json", "[7, 1, 2]\n[7, 1, 3]\n", None),
        ("qidpidtriples.train.small.tsv", "7\t01\t1\n7\t01\t2\n7\t01\t3\n", "triples"),
        ("pairs.tsv", TRIPLES, "triples"),
        ("teacher.tsv", SCORED, "scored_triples"),
        ("top1000.dev", "7\t01\twho is it\tnobody at all\n", "top1000"),
        ("text", "who is it\tthe text that says so\tthe text that does not\n", None),
    ],
)
def test_a_file_is_told_by_its_lines(write, name, text, kind):
    assert detect_format(write(name, text)) == kind


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gaps.tsv", "7\t01\t1\n7\t2\t4\n8\t2\t2\n"),  # a run of which documents were left out
        ("sorted_by_id.tsv", "7\t01\t2\n7\t2\t1\n7\t3\t3\n"),
        ("singles.tsv", "7\t01\t2\n8\t2\t3\n"),
        ("merged_runs.tsv", "7\t01\t2\n7\t2\t1\n7\t01\t3\n"),  # with a document twice
        ("qidpidtriples.run.tsv", "7\t01\t1\n7\t2\t2\n8\t2\t1\n"),  # the name says this, and the lines say that
        ("no_tag.tsv", "7\t0\t01\t1\t9.5\n7\t0\t2\t2\t8.5\n"),
    ],
)
def test_a_file_that_may_be_two_things_is_asked_for(write, name, text):
    file = write(name, text)
    with pytest.raises(InputError, match="--candidates_format"):
        detect_format(file)
    if name != "no_tag.tsv":
        assert [pair.label for pair in read_pairs(file, "run")] == [0] * len(text.splitlines())
        assert [pair.label for pair in read_pairs(file, "triples")] == [1, 0] * len(text.splitlines())


@pytest.mark.parametrize("third", ["12.5", "-1"])
def test_a_score_is_not_taken_for_a_rank(write, third):
    file = write("scores.tsv", f"7\t01\t{third}\n7\t2\t9\n")
    with pytest.raises(InputError, match="scores.tsv, line 1: expected a whole number from 0 as the rank, got"):
        list(read_pairs(file, "run"))


def test_a_run_with_a_header_is_no_file_of_triples(write):
    file = write("run.tsv", "query\tdocument\trank\n7\t01\t1\n7\t2\t2\n")
    with pytest.raises(InputError, match="run.tsv, line 1: expected a rank, got 'rank'"):
        list(read_pairs(file))


def test_teacher_scores_belong_to_both_documents_of_a_triple(write):
    pairs = plain(read_pairs(write("t.tsv", SCORED)))
    assert pairs == [("7", "01", 1, 3.5), ("7", "2", 0, -1.25), ("7", "01", 1, 3.5), ("7", "3", 0, 0.5)]


def test_triples_without_scores_have_labels_only(write):
    pairs = plain(read_pairs(write("t.tsv", TRIPLES)))
    assert pairs[:2] == [("7", "01", 1, None), ("7", "20001", 0, None)] and len(pairs) == 6


def test_runs_and_top1000_have_neither(write):
    assert plain(read_pairs(write("r", "7 Q0 01 1 12.5 x\n"))) == [("7", "01", 0, None)]
    assert plain(read_pairs(write("top", "7\t01\twho is it\tnobody at all\n"))) == [("7", "01", 0, None)]


@pytest.mark.parametrize("bad", ["nan", "inf", "high"])
def test_a_teacher_score_that_is_no_number_is_located(write, bad):
    with pytest.raises(InputError, match=rf"t.tsv, line 3: expected a teacher score, got '{bad}'"):
        list(read_pairs(write("t.tsv", f"{SCORED}1.0\t{bad}\t7\t01\t2\n")))


def test_a_line_with_other_columns_is_located(write):
    with pytest.raises(InputError, match=r"t.tsv, line 3: expected 5 columns \(score of the positive, .* got '1.0"):
        list(read_pairs(write("t.tsv", f"{SCORED}1.0\t7\t01\t2\n")))


def test_an_unknown_and_an_empty_file_are_refused(write):
    with pytest.raises(InputError, match="expected a run, triples of ids, teacher scores or top1000 .* got 'a b'"):
        read_pairs(write("x", "a b\n"))
    with pytest.raises(InputError, match="x: is empty"):
        read_pairs(write("x", "\n"))


@pytest.fixture
def lists():
    rows = [
        {"query_id": "7", "query": "?", "document_ids": ["01", "2", "3"], "labels": [1, 0, 0]}
        | {"teacher_scores": [3.5, -1.25, 0.1]},
        {"query_id": "8", "query": "?", "document_ids": ["2", "3", "01"], "labels": [2, 1, 0]}
        | {"teacher_scores": [1, math.nan, 2]},
    ]
    return RankingLists(
        write_rows(rows, SCORED_ROW_FEATURES), DocumentTable.from_texts(["01", "2", "3"], ["", "", ""])
    )


def test_written_triples_read_back_as_the_pairs_of_the_lists(lists, tmp_path):
    assert write_scored_triples(lists, tmp_path / "t.tsv") == 3
    pairs = {(pair.query, pair.document): (pair.label, pair.score) for pair in read_pairs(tmp_path / "t.tsv")}
    rounded = pytest.approx(0.1, abs=1e-8)
    assert pairs[("7", "3")] == (0, rounded)
    del pairs[("7", "3")]
    assert pairs == {("7", "01"): (1, 3.5), ("7", "2"): (0, -1.25), ("8", "2"): (1, 1.0), ("8", "01"): (0, 2.0)}


def test_what_cannot_be_written_leaves_no_file(lists, tmp_path):
    unscored = RankingLists(lists.rows.remove_columns("teacher_scores"), lists.documents)
    with pytest.raises(InputError, match="no teacher scores to write"):
        write_scored_triples(unscored, tmp_path / "t.tsv")
    spaced = write_rows([{**lists.rows[0], "query_id": "a b"}], SCORED_ROW_FEATURES)
    with pytest.raises(InputError, match="id 'a b' cannot be written"):
        write_scored_triples(RankingLists(spaced, lists.documents), tmp_path / "t.tsv")
    negatives = write_rows([{**lists.rows[0], "labels": [0, 0, 0]}], SCORED_ROW_FEATURES)
    with pytest.raises(InputError, match="nothing to write"):
        write_scored_triples(RankingLists(negatives, lists.documents), tmp_path / "t.tsv")
    assert list(tmp_path.iterdir()) == [] and set(ROW_FEATURES) < set(SCORED_ROW_FEATURES)
