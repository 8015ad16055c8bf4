import pytest

from trainers.data import read_data
from trainers.errors import InputError


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


def test_a_split_has_the_queries_it_judges_and_the_whole_corpus(folder):
    collection = read_data(str(folder), "test")
    assert collection.queries == {"q1": "who purrs"}
    assert collection.qrels == {"q1": {"1": 1.0, "2": 0.0}}
    assert collection.documents.texts(["1", "2"]) == ["Cats purr", "Dogs bark"]
    assert collection.report["queries_without_text"] == 1


def test_a_missing_split_names_those_there_are(folder):
    with pytest.raises(InputError, match="no split 'train'; qrels/ has test"):
        read_data(str(folder), "train")


def test_a_bad_line_is_named(folder):
    (folder / "qrels" / "test.tsv").write_text("q1\t1\t1\nq1 2 0\n")
    with pytest.raises(InputError, match=r"test.tsv, line 2: expected query-id, corpus-id, score; got 'q1 2 0"):
        read_data(str(folder), "test")
    (folder / "corpus.jsonl").write_text(CORPUS + '{"text": "no id"}\n')
    with pytest.raises(InputError, match="corpus.jsonl, line 4"):
        read_data(str(folder), "test")


def test_something_else_is_refused_with_what_was_expected(tmp_path):
    with pytest.raises(InputError, match="expected 'pydocs' or a folder with corpus.jsonl"):
        read_data(str(tmp_path), "test")
