import pytest

from m3se.trainers.data import OwnCandidates, candidate_lists, read_data, teacher_lists, training_lists
from m3se.trainers.errors import InputError


COLLECTION = '0\tThe "so-called\tx'.replace("\tx", "") + "\n1\tManhattan project\n2\tA third\n03\tfourth\n3\tfifth\n"


@pytest.fixture
def folder(write, tmp_path):
    write("ms/collection.tsv", COLLECTION)
    write("ms/queries.train.tsv", "7\twho did it\n8\twhy\n9\tnever judged\n")
    write("ms/qrels.train.tsv", "7\t0\t0\t1\n8\t0\t1\t1\n8\t0\t2\t1\n")
    write("ms/queries.dev.small.tsv", "5\twhat\n")
    write("ms/qrels.dev.small.tsv", "5\t0\t03\t1\n")
    write("ms/msmarco-test2019-queries.tsv", "6\twhen\n")
    write("ms/2019qrels-pass.txt", "6 Q0 3 3\n6 Q0 1 0\n")
    return tmp_path / "ms"


def test_a_split_is_found_by_its_file_names(folder, cache):
    collection = read_data(str(folder), "train", cache)
    assert collection.queries == {"7": "who did it", "8": "why"}
    assert collection.documents.texts(["0", "03", "3"]) == ['The "so-called', "fourth", "fifth"]
    assert collection.report["queries_dropped_without_judgment"] == 1
    assert read_data(str(folder), "dev.small", cache).qrels == {"5": {"03": 1.0}}
    assert read_data(str(folder), "2019", cache).qrels == {"6": {"3": 3.0, "1": 0.0}}


def test_a_missing_split_names_what_was_looked_for_and_what_is_there(folder, cache):
    with pytest.raises(
        InputError, match=r"no queries of split 'dev': expected queries.dev.tsv .* found .*queries.dev.s"
    ):
        read_data(str(folder), "dev", cache)


def test_a_run_file_gives_the_candidates(folder, cache, write):
    run = write("bm25.trec", "7 Q0 1 1 9 x\n7 Q0 0 2 8 x\n8 Q0 3 1 7 x\n77 Q0 0 1 7 x\n")
    collection = read_data(str(folder), "train", cache, candidates=run)
    rows = candidate_lists(collection, OwnCandidates(collection), depth=10).rows.to_list()
    assert [(row["query_id"], row["document_ids"], row["labels"]) for row in rows] == [
        ("7", ["1", "0"], [0, 1]),
        ("8", ["3"], [0]),
    ]
    assert collection.report["pairs_dropped_of_unknown_queries"] == 1


def test_candidates_that_name_unknown_documents_are_refused_or_counted(folder, cache, write):
    run = write("bm25.trec", "7 Q0 1 1 9 x\n7 Q0 x 2 8 x\n8 Q0 y 1 7 x\n77 Q0 z 1 7 x\n")
    with pytest.raises(InputError, match=r"bm25.trec: names 2 documents that the collection does not have \(x, y\)"):
        read_data(str(folder), "train", cache, candidates=run)
    collection = read_data(str(folder), "train", cache, candidates=run, allow_missing=True)
    assert collection.candidates.to_list() == [{"query_id": "7", "document_ids": ["1"]}]
    assert collection.report["pairs_dropped_of_unknown_documents"] == 2
    other = write("other.trec", "77 Q0 z 1 7 x\n")
    with pytest.raises(InputError, match="none of its 1 pairs of query and document is in the collection"):
        read_data(str(folder), "train", cache, candidates=other)


def test_triples_become_lists_with_their_positives(folder, cache, write):
    triples = write("qidpidtriples.tsv", "8\t1\t3\n8\t2\t03\n7\t0\t3\n8\t1\t0\n")
    collection = read_data(str(folder), "train", cache, candidates=triples)
    lists = training_lists(collection, OwnCandidates(collection), 4, depth=9)
    positives, negatives = lists.rows[0]["document_ids"][:2], lists.rows[0]["document_ids"][2:]
    assert positives == ["1", "2"] and set(negatives) < {"3", "03", "0"} and len(negatives) == 2
    assert lists.report["lists"]["queries_dropped_with_too_few_candidates"] == 1


def test_teacher_scores_make_lists_of_the_highest_with_positives_kept(folder, cache, write):
    lines = ["2.0 1.0 8 1 3", "0.5 4.0 8 2 03", "2.0 3.0 8 1 0", "9.0 8.5 7 0 3"]
    scores = write("scores.tsv", "\n".join(lines).replace(" ", "\t"))
    collection = read_data(str(folder), "train", cache, candidates=scores)
    lists = teacher_lists(collection, documents_per_query=4)
    rows = {row["query_id"]: row for row in lists.rows}
    assert rows["8"]["document_ids"] == ["1", "2", "03", "0"]
    assert rows["8"]["labels"] == [1, 1, 0, 0] and rows["8"]["teacher_scores"] == [2.0, 0.5, 4.0, 3.0]
    assert rows["7"]["document_ids"] == ["0", "3"]
    assert lists.report["lists"]["lists_shorter_than_k"] == 1


def test_the_log_says_how_long_the_lists_are(folder, cache, write, caplog):
    run = write("bm25.trec", "7 Q0 1 1 9 x\n7 Q0 0 2 8 x\n8 Q0 3 1 7 x\n77 Q0 0 1 7 x\n")
    with caplog.at_level("INFO"):
        read_data(str(folder), "train", cache, candidates=run)
    assert "lists of 1 to 2 documents (median 2) for 2 queries; " in caplog.text
    assert "pairs dropped of unknown queries: 1" in caplog.text


def test_a_constant_teacher_is_refused(folder, cache, write):
    scores = write("scores.tsv", "2\t2\t8\t1\t3\n2\t2.0\t7\t0\t3\n")
    with pytest.raises(InputError, match="scores.tsv: all teacher scores are 2; a constant teacher teaches nothing"):
        read_data(str(folder), "train", cache, candidates=scores)
    assert not [path for path in cache.iterdir() if "lists" in path.name]


def test_lists_are_collected_once(folder, cache, write, caplog):
    triples = write("qidpidtriples.tsv", "8\t1\t3\n7\t0\t3\n")
    with caplog.at_level("INFO"):
        first = read_data(str(folder), "train", cache, candidates=triples)
        assert "reusing the lists" not in caplog.text
        again = read_data(str(folder), "train", cache, candidates=triples)
        assert "reusing the lists" in caplog.text
    assert first.candidates.to_list() == again.candidates.to_list() and first.report == again.report
    write("qidpidtriples.tsv", "8\t1\t3\n7\t0\t3\n8\t1\t0\n")
    assert read_data(str(folder), "train", cache, candidates=triples).candidates[1]["document_ids"] == ["1", "3", "0"]


def test_a_file_of_ids_alone_is_no_source(cache, write):
    with pytest.raises(InputError, match=r"is a file of ids; expected DPR json.*--data FOLDER --candidates"):
        read_data(str(write("t.tsv", "8\t1\t3\n8\t1\t0\n")), "train", cache)


def test_triples_of_texts_are_a_collection_of_their_own(cache, write):
    lines = ["who is it\tthe man\tthe sea", "who is it\tthe man\tthe sun", "why so\tthe sea\tthe man"]
    collection = read_data(str(write("triples.train.small.tsv", "\n".join(lines))), "train", cache)
    assert sorted(collection.queries.values()) == ["who is it", "why so"]
    lists = training_lists(collection, OwnCandidates(collection), 2, depth=9)
    texts = {row["query"]: collection.documents.texts(row["document_ids"]) for row in lists.rows}
    assert texts["who is it"] in (["the man", "the sea"], ["the man", "the sun"])
    assert texts["why so"] == ["the sea", "the man"]
    assert len(collection.documents) == 3 and collection.report["pairs_repeated"] == 1


def test_top1000_holds_texts_and_candidates_but_needs_judgments(cache, write):
    file = write("top1000.dev", "7\t1\twho is it\tthe man of\n7\t2\twho is it\tthe sea of\n8\t1\twhy so\tthe man of\n")
    with pytest.raises(InputError, match="top1000 has no judgments; give them by --qrels FILE"):
        read_data(str(file), "dev", cache)
    qrels = write("qrels.dev.tsv", "7\t0\t2\t1\n8\t0\t99\t1\n55\t0\t1\t1\n")
    collection = read_data(str(file), "dev", cache, qrels=qrels)
    rows = candidate_lists(collection, OwnCandidates(collection), 1000).rows.to_list()
    assert [(row["query_id"], row["labels"]) for row in rows] == [("7", [0, 1])]
    assert collection.report["judgments_dropped_of_unknown_documents"] == 1
