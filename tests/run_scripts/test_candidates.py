"""The candidates of every command: which documents a query may get, by what order, and what is refused before work."""

import json
import random

import pytest

from m3se.run_scripts import evaluate, mine, score_with_teacher, train_teacher
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.cli.arguments import DevArguments
from m3se.run_scripts.work.list_making import prepare_lists
from m3se.run_scripts.work.train_teacher import prepare_lists as prepare_teacher_lists
from m3se.run_scripts.work.training import read_dev_lists
from m3se.trainers.data import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import read_run
from tests.worlds import words


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return words.save_cross_encoder(tmp_path_factory.mktemp("models") / "teacher")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return words.save_dual_encoder(tmp_path_factory.mktemp("models") / "student")


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    """Relative defaults, such as the cache, end up there."""
    monkeypatch.chdir(tmp_path)


def call(script, *argv):
    return script.main(*parse(script.make_parser(), [*map(str, argv)]))


def write_data(folder, documents, queries, judgments):
    """Write a BEIR folder; judgments are (query, document, grade), of every split."""
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        rows = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, judgment)) for judgment in judgments)]
    for split in ("train", "dev", "test"):
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def arguments(tmp_path):
    """Queries that are documents, as ArguAna's: the second best document of each is its answer."""
    draw = random.Random(0)
    texts = [" ".join(draw.sample(words.WORDS, 6)) for _ in range(20)]
    documents = {f"x{i}": text for i, text in enumerate(texts)}
    documents |= {f"y{i}": f"{texts[i]} zone" for i in range(4)}
    queries = {f"x{i}": texts[i] for i in range(4)}
    return write_data(tmp_path / "arguments", documents, queries, [(f"x{i}", f"y{i}", 1) for i in range(4)])


def test_no_query_is_its_own_hit(arguments, student, tmp_path):
    flags = ["--model", student, "--data", arguments, "--depth", 5, "--name", "DE", "--dtype", "float32"]
    for options in (["--retrieve"], []):
        call(evaluate, *flags, *options, "--output", tmp_path / "out")
        for name in ("bm25", "de"):
            run = read_run(tmp_path / "out" / name / "run.trec")
            assert all(len(scores) == 5 and query not in scores for query, scores in run.items())
        metrics = json.loads((tmp_path / "out" / "bm25" / "metrics.json").read_text())
        assert (metrics["MRR@10"], metrics["identical_ids_left_out"]) == (1.0, 4)
        assert "a query is no answer to itself: 4 documents" in (tmp_path / "out" / "table.md").read_text()
        call(evaluate, *flags, *options, "--keep_identical_ids", "--output", tmp_path / "kept")
        assert json.loads((tmp_path / "kept" / "bm25" / "metrics.json").read_text())["MRR@10"] < 1
        assert "identical_ids_left_out" not in (tmp_path / "kept" / "bm25" / "metrics.json").read_text()


def test_no_query_is_its_own_negative(arguments, student, teacher, tmp_path):
    flags = ["--model", student, "--data", arguments, "--count", 23, "--output", tmp_path / "mined.trec"]
    call(mine, *flags)
    mined = read_run(tmp_path / "mined.trec")
    assert [len(scores) for scores in mined.values()] == [22] * 4  # of 24 documents one is the answer
    assert all(query not in scores for query, scores in mined.items())
    call(mine, *flags, "--keep_identical_ids")
    assert all(query in scores for query, scores in read_run(tmp_path / "mined.trec").items())
    flags = ["--teacher", teacher, "--data", arguments, "--documents_per_query", 23, "--negatives", "top"]
    call(score_with_teacher, *flags, "--candidates", "random", "--output", tmp_path / "scored")
    lists = RankingLists.load(tmp_path / "scored")
    assert all(row["query_id"] not in row["document_ids"] for row in lists.rows)
    assert lists.report["lists"]["identical_ids_left_out"] == 4


def test_top1000_in_random_order_is_taken_whole(student, tmp_path, caplog):
    draw = random.Random(3)
    texts = [" ".join(draw.sample(words.WORDS, 5)) for _ in range(12)]
    lines = [f"7\t{document}\tvector sum\t{text}" for document, text in enumerate(texts)]
    (tmp_path / "top1000.dev").write_text("\n".join(lines) + "\n")
    (tmp_path / "qrels.tsv").write_text("7\t0\t11\t1\n")  # the last line
    flags = ["--data", "top1000.dev", "--qrels", "qrels.tsv", "--candidates", "own", "--output", "out"]
    with caplog.at_level("INFO"):
        call(evaluate, "--model", student, *flags, "--depth", 5)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["candidate_recall"], metrics["depth"]) == (1.0, 12)
    assert len(read_run(tmp_path / "out" / "run.trec")["7"]) == 12
    assert "in no order that --depth 5 could cut: all are taken, at most 12 documents a query" in caplog.text


def test_a_run_gives_every_command_the_same_best_documents(student, teacher, tmp_path):
    data = write_data(tmp_path / "data", words.DOCUMENTS, words.QUERIES, [("q1", "d1", 1)])
    lines = ["q1 Q0 d2 1 1.0 x", "q1 Q0 d1 2 3.0 x", "q1 Q0 d3 3 4.0 x", "q1 Q0 d4 4 5.0 x"]
    (tmp_path / "run.trec").write_text("\n".join(lines) + "\n")
    flags = ["--data", data, "--candidates", tmp_path / "run.trec", "--depth", 3, "--output", tmp_path / "out"]
    (first,) = call(evaluate, *flags, "--split", "train")
    assert list(first.run["q1"]) == ["d4", "d3", "d1"]
    flags[-1] = tmp_path / "scored"
    call(score_with_teacher, "--teacher", teacher, *flags, "--documents_per_query", 3, "--negatives", "top")
    assert RankingLists.load(tmp_path / "scored").rows[0]["document_ids"] == ["d1", "d4", "d3"]


def test_training_counts_positives_from_the_relevance_level(student, teacher, tmp_path):
    judgments = [("q1", "d1", 4), ("q1", "d2", 1), ("q1", "d3", 2), ("q2", "d4", 2)]
    queries = {"q1": "vector list sort path node graph", "q2": "read file"}
    data = write_data(tmp_path / "antique", words.DOCUMENTS, queries, judgments)
    flags = ["--data", data, "--candidates", "random", "--documents_per_query", 7, "--relevance_level", 3]
    call(score_with_teacher, "--teacher", teacher, *flags, "--output", tmp_path / "scored")
    lists = RankingLists.load(tmp_path / "scored")
    assert lists.rows["query_id"][:] == ["q1"]
    assert dict(zip(lists.rows[0]["document_ids"], lists.rows[0]["labels"], strict=True))["d2"] == 0
    call(mine, "--model", student, "--data", data, "--relevance_level", 3, "--output", tmp_path / "mined.trec")
    assert {"d2", "d3"} <= set(read_run(tmp_path / "mined.trec")["q1"])
    options = {"cache_dir": str(tmp_path / "cache"), "relevance_level": 3}
    dev = read_dev_lists(str(data), DevArguments(**options), "steps")
    assert dev.rows[0]["query_id"] == "q1" and set(dev.rows[0]["labels"]) <= {0, 4}
    teacher_data = train_teacher.TeacherData(data=str(data), documents_per_query=3, depth=4)
    lists = prepare_teacher_lists(teacher_data, DevArguments(**options), 0)
    assert lists.rows["labels"][:] == [[4, 0, 0]]
    with pytest.raises(InputError, match="no document has a grade of 5 or more .--relevance_level.; the highest is 4"):
        call(score_with_teacher, "--teacher", teacher, *flags[:-1], 5, "--output", tmp_path / "other")


@pytest.mark.parametrize("script", [evaluate, mine])
def test_ids_that_no_run_file_can_hold_are_refused_before_anything_is_embedded(student, tmp_path, script):
    documents = words.DOCUMENTS | {"New York": "zone"}  # far from every query, but a dense model may find it
    data = write_data(tmp_path / "data", documents, words.QUERIES, [("q1", "d1", 1)])
    options = {evaluate: ["--retrieve"], mine: ["--split", "train"]}[script]
    with pytest.raises(InputError, match="document id 'New York' cannot be written to a TREC run file"):
        call(script, "--model", student, "--data", data, *options, "--output", tmp_path / "out")
    assert not list(tmp_path.glob("outputs/cache/encoding-*")) and not list(tmp_path.glob("outputs/cache/bm25-*"))


def test_ids_that_no_table_can_hold_are_refused_before_anything_is_scored(teacher, tmp_path):
    documents = words.DOCUMENTS | {"New York": "vector zone"}
    data = write_data(tmp_path / "data", documents, words.QUERIES, [("q1", "d1", 1)])
    flags = ["--candidates", "random", "--documents_per_query", 8, "--export_tsv", tmp_path / "scores.tsv"]
    with pytest.raises(InputError, match="document id 'New York' cannot be written to a table of triples"):
        call(score_with_teacher, "--teacher", teacher, "--data", data, *flags, "--output", tmp_path / "out")
    assert not (tmp_path / "outputs" / "cache" / "teacher_scores").exists()


@pytest.fixture
def chinese(tmp_path):
    documents = {
        "d1": "长颈鹿是世界上最高的动物",
        "d2": "鸵鸟是现存体型最大的鸟类",
        "d3": "面包是由面粉和水制成的食品",
        "d4": "动物园里有鸟类",
    }
    queries = {"q1": "最高的动物", "q2": "最大的鸟类"}
    return write_data(tmp_path / "zh", documents, queries, [("q1", "d1", 1), ("q2", "d2", 1)])


def test_texts_without_spaces_are_found_by_their_characters(chinese, teacher, tmp_path):
    (found,) = call(evaluate, "--data", chinese, "--bm25_tokenizer", "characters", "--output", tmp_path / "out")
    assert found.evaluation.values["MRR@10"] == 1.0
    dev = DevArguments(cache_dir=str(tmp_path / "cache"), bm25_tokenizer="characters")
    assert [ids[0] for ids in read_dev_lists(str(chinese), dev, "steps").rows["document_ids"]] == ["d1", "d2"]
    flags = ["--teacher", teacher, "--data", chinese, "--documents_per_query", 2, "--bm25_tokenizer", "characters"]
    (arguments,) = parse(score_with_teacher.make_parser(), [*map(str, flags), "--output", "out"])
    assert prepare_lists(arguments, scored_here=True).rows["document_ids"][:] == [["d1", "d4"], ["d2", "d4"]]


def test_where_bm25_finds_nothing_the_way_out_is_said_and_nothing_is_scored(chinese, student, teacher, caplog):
    flags = ["--data", chinese, "--output", "out"]
    with pytest.raises(InputError, match="zh: BM25 .*: not a document for any of the 2 judged queries"):
        call(evaluate, "--model", student, *flags)
    with pytest.raises(InputError, match="the richest, 'q1', has 0 candidates"):
        call(score_with_teacher, "--teacher", teacher, *flags, "--documents_per_query", 2)
    with pytest.raises(InputError, match="zh: BM25 .* finds no document for any of 2 queries"):
        read_dev_lists(str(chinese), DevArguments(), "steps")
    hint = "BM25 found nothing for 2 of 2 queries (q1, q2)"
    assert sum(message.startswith(hint) and "--bm25_tokenizer" in message for message in caplog.messages) == 3
    bm25, dense = call(evaluate, "--model", student, *flags, "--retrieve")  # a row of zeros is said to be one
    assert bm25.evaluation.values["MRR@10"] == 0 and dense.evaluation.values["MRR@10"] > 0
    assert sum(message.startswith(hint) for message in caplog.messages) == 4


def test_any_measure_of_ir_measures_is_a_column(student, tmp_path):
    data = words.write_beir(tmp_path / "words")
    flags = ["--model", student, "--data", data, "--output", tmp_path / "out"]
    call(evaluate, *flags, "--metrics", "RR@10", "MAP", "P@5", "ERR@20")
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.startswith("| model | MRR@10 | MAP | P@5 | ERR@20 | p MRR@10 |")
    assert "MRR@10, MAP, P@5: relevant from grade 1" in table and "ERR@20: as ir_measures defines it" in table
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["intervals_95"]) == ["MRR@10", "MAP", "P@5", "ERR@20"] and "Recall@100" not in metrics
    with pytest.raises(InputError, match="unknown measure 'mrr@10'"):
        call(evaluate, *flags, "--metrics", "mrr@10")
