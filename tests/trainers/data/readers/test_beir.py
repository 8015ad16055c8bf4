import gzip
import shutil

import pytest

from m3se.trainers.data import read_data
from m3se.trainers.errors import InputError


CORPUS = '{"_id": "1", "title": "Cats", "text": "purr"}\n\n{"_id": "2", "title": "", "text": "Dogs bark"}\n'
QUERIES = '{"_id": "q1", "text": "who purrs"}\n{"_id": "q2", "text": "who barks"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\t1\t1\nq1\t2\t0\nq3\t1\t1\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(CORPUS, encoding="utf-8-sig")
    (tmp_path / "queries.jsonl").write_text(QUERIES)
    (tmp_path / "qrels" / "test.tsv").write_text(QRELS)
    return tmp_path


def test_a_split_has_the_queries_it_judges_and_the_whole_corpus(folder, cache):
    collection = read_data(str(folder), "test", cache)
    assert collection.queries == {"q1": "who purrs"}
    assert collection.qrels == {"q1": {"1": 1.0, "2": 0.0}}
    assert collection.documents.texts(["1", "2"]) == ["Cats purr", "Dogs bark"]
    assert collection.report["judged_queries_dropped_without_text"] == 1


def test_a_missing_split_names_those_there_are(folder, cache):
    with pytest.raises(InputError, match="no split 'train'; qrels/ has test"):
        read_data(str(folder), "train", cache)


def test_a_file_of_judgments_is_taken_instead_of_the_folders_own(folder, cache, write):
    own = write("mine.txt", "q2 0 2 3\n")
    shutil.rmtree(folder / "qrels")
    assert read_data(str(folder), "any", cache, qrels=own).qrels == {"q2": {"2": 3.0}}
    with pytest.raises(InputError, match="no split 'any'; qrels/ has none"):
        read_data(str(folder), "any", cache)


def test_graded_judgments_are_said_with_the_option_that_sets_the_lowest(folder, cache, caplog):
    caplog.set_level("INFO")
    read_data(str(folder), "test", cache)
    assert "relevance_level" not in caplog.text  # of one grade there is nothing to choose
    (folder / "qrels" / "test.tsv").write_text("q1\t1\t4\nq1\t2\t1\n")
    read_data(str(folder), "test", cache)
    assert "2.00 positives per query of grades 1 to 4 (--relevance_level sets the lowest that counts)" in caplog.text


def test_a_bad_line_is_named(folder, cache):
    (folder / "qrels" / "test.tsv").write_text("q1\t1\t1\nq1\t2\n")
    with pytest.raises(InputError, match=r"test.tsv, line 2: expected 'query 0 document grade' or"):
        read_data(str(folder), "test", cache)
    (folder / "qrels" / "test.tsv").write_text(QRELS)
    (folder / "corpus.jsonl").write_text(CORPUS + '{"_id": "3", "text": null}\n')
    with pytest.raises(InputError, match="corpus.jsonl, line 4: text is missing in"):
        read_data(str(folder), "test", cache)


def test_compressed_parts_are_found(folder, cache):
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert read_data(str(folder), "test", cache).documents.texts(["2"]) == ["Dogs bark"]


def test_a_document_id_with_two_texts_is_an_error_that_names_both_lines(folder, cache):
    (folder / "corpus.jsonl").write_text(CORPUS + '{"_id": "1", "text": "other"}\n')
    with pytest.raises(InputError, match="document '1' is 'Cats purr' on line 1 and 'other' on line 4"):
        read_data(str(folder), "test", cache)
    (folder / "corpus.jsonl").write_text(CORPUS)
    (folder / "queries.jsonl").write_text(QUERIES + '{"_id": "q1", "text": "who else"}\n')
    with pytest.raises(InputError, match="query 'q1' is 'who purrs' on line 1 and 'who else' on line 3"):
        read_data(str(folder), "test", cache)


def test_a_document_given_twice_with_one_text_counts_once(folder, cache):
    (folder / "corpus.jsonl").write_text('{"_id": "2", "text": "Dogs bark"}\n' + CORPUS.removeprefix("\ufeff"))
    collection = read_data(str(folder), "test", cache)
    assert list(collection.documents.ids) == ["2", "1"]
    assert collection.report["documents_dropped_as_repeated"] == 1
    assert read_data(str(folder), "test", cache).report == collection.report


def test_queries_and_judgments_given_twice_are_counted(folder, cache, write):
    assert not any("repeated" in reason for reason in read_data(str(folder), "test", cache).report)
    (folder / "queries.jsonl").write_text(QUERIES + QUERIES)
    (folder / "qrels" / "test.tsv").write_text(QRELS + "q1\t2\t0\n")
    report = read_data(str(folder), "test", cache).report
    assert (report["queries_dropped_as_repeated"], report["judgments_dropped_as_repeated"]) == (2, 1)
    report = read_data(str(folder), "test", cache, qrels=write("own", "q1 0 1 1\nq1 0 1 1\nq1 0 1 1\n")).report
    assert report["judgments_dropped_as_repeated"] == 2


def test_judgments_of_unknown_documents_are_refused_or_counted(folder, cache):
    lines = "".join(f"q1\tx{i}\t1\n" for i in range(7))
    (folder / "qrels" / "test.tsv").write_text(QRELS + lines + "q2\tx0\t1\n")
    with pytest.raises(InputError, match=r"name 7 documents that .* \(x0, x1, x2, x3, x4, …\); --allow_missing true"):
        read_data(str(folder), "test", cache)
    collection = read_data(str(folder), "test", cache, allow_missing=True)
    assert collection.qrels == {"q1": {"1": 1.0, "2": 0.0}}
    assert collection.report["judgments_dropped_of_unknown_documents"] == 8
    assert collection.report["queries_dropped_with_unknown_documents_only"] == 1


def test_a_split_without_a_positive_or_a_known_query_is_refused(folder, cache):
    (folder / "qrels" / "test.tsv").write_text("q1\t1\t0\n")
    with pytest.raises(InputError, match="no document is judged relevant"):
        read_data(str(folder), "test", cache)
    (folder / "qrels" / "test.tsv").write_text("q8\t1\t1\nq9\t1\t1\n")
    with pytest.raises(InputError, match=r"none of the 2 judged queries \(q8, q9\) has a text"):
        read_data(str(folder), "test", cache)


def test_documents_are_read_once_and_again_when_the_file_changes(folder, cache, caplog):
    with caplog.at_level("INFO"):
        read_data(str(folder), "test", cache)
        assert "reusing" not in caplog.text
        read_data(str(folder), "test", cache)
        assert "reusing the documents" in caplog.text
    (folder / "corpus.jsonl").write_text(CORPUS + '{"_id": "3", "text": "more"}\n')
    assert len(read_data(str(folder), "test", cache).documents) == 3


def test_the_log_says_what_was_found(folder, cache, caplog):
    with caplog.at_level("INFO"):
        read_data(str(folder), "test", cache)
    assert "(BEIR): 1 queries, 2 documents, 2 judgments, 1.00 positives per query; " in caplog.text
    assert "judged queries dropped without text: 1; queries dropped without judgment: 1" in caplog.text


def test_something_else_is_refused_with_what_was_expected(tmp_path, cache):
    for source in (str(tmp_path), "./nowhere"):
        with pytest.raises(InputError, match="expected pydocs, a folder .BEIR: corpus.jsonl"):
            read_data(source, "test", cache)
