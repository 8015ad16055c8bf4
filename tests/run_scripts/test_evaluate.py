import json
from pathlib import Path

import numpy as np
import pytest

from m3se.run_scripts import encode
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.evaluate import main, make_parser
from m3se.run_scripts.work import models as models_script
from m3se.trainers.data import ROW_FEATURES, DocumentTable, RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.run_metrics import evaluate_run
from m3se.trainers.evaluation.runs import read_run, write_run
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.teacher.judge import Judge
from tests.worlds import judges
from tests.worlds import words as tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [tiny.save_cross_encoder(folder / "teacher"), tiny.save_dual_encoder(folder / "student")]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny.save_bare_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def beir(tmp_path_factory):
    return tiny.write_beir(tmp_path_factory.mktemp("data") / "words")


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    """Relative defaults, such as the cache, end up there."""
    monkeypatch.chdir(tmp_path)


def evaluate(*argv):
    return main(*parse(make_parser(), [*map(str, argv)]))


def test_one_table_and_one_folder_per_row(models, beir, tmp_path, capsys):
    arguments = ["--model", *models, "--data", beir, "--depth", 2]
    evaluate(*arguments, "--output", tmp_path / "out", "--dtype", "float32", "--name", "CA", "DE M3SE")
    table = (tmp_path / "out" / "table.md").read_text()
    assert capsys.readouterr().out.strip() == table.strip()
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert names == ["model", "---", "BM25", "CA", "DE M3SE"]
    assert "3 queries, re-ranking the top 2 of BM25" in table
    assert "against CA, two-sided, 10,000 permutations, Holm-corrected over 2 rows" in table
    for folder in ("bm25", "ca", "de-m3se"):
        folder = tmp_path / "out" / folder
        metrics = json.loads((folder / "metrics.json").read_text())
        again = evaluate_run(read_run(folder / "run.trec"), tiny.QRELS)
        assert {name: metrics[name] for name in again.values} == again.values
        assert (metrics["queries"], metrics["ties"]) == (3, again.ties)
        assert metrics["candidate_recall"] == pytest.approx(1.0)
        rows = [json.loads(line) for line in (folder / "per_query.jsonl").read_text().splitlines()]
        assert {row.pop("query_id"): row for row in rows} == again.per_query
        low, high = metrics["intervals_95"]["MRR@10"]
        assert low <= metrics["MRR@10"] <= high
        assert metrics.get("p_values", {"against": "CA"})["against"] == "CA"


def test_a_single_model_leaves_its_files_in_the_output_folder_itself(models, beir, tmp_path):
    output = tmp_path / "two words"
    evaluate("--model", models[1], "--data", beir, "--split", "test", "--candidates", "bm25", "--output", output)
    files = {"run.trec", "metrics.json", "per_query.jsonl"}
    assert {path.name for path in output.iterdir()} == {*files, "table.md", "bm25"}
    assert {path.name for path in (output / "bm25").iterdir()} == files
    metrics = json.loads((output / "metrics.json").read_text())
    assert {"MRR@10", "nDCG@10", "Recall@100", "queries", "ties", "candidate_recall"} <= metrics.keys()
    assert metrics["model"] == models[1]
    assert evaluate_run(read_run(output / "run.trec"), tiny.QRELS).values["MRR@10"] == metrics["MRR@10"]


def test_the_mean_of_all_rows_is_measured_like_a_row(models, beir, tmp_path):
    found = {query: {"d6": 4.0, "d1": 3.5, "d2": 1.0, "d4": -2.0} for query in tiny.QUERIES}
    write_run(tmp_path / "found.trec", found, "found")
    arguments = ["--model", *models, "--data", beir, "--candidates", tmp_path / "found.trec", "--dtype", "float32"]
    first, _, student, mean = evaluate(*arguments, "--mean_weights", 1, 0, 2, "--output", tmp_path)
    assert mean.name == "mean"
    for query, scores in mean.run.items():
        columns = [np.array([run[query][document] for document in scores]) for run in (first.run, student.run)]
        one, two = ((column - column.mean()) / column.std() for column in columns)
        assert list(scores.values()) == pytest.approx((one + 2 * two) / 3, abs=1e-5)
    assert mean.evaluation.values == evaluate_run(mean.run, tiny.QRELS).values
    metrics = json.loads((tmp_path / "mean" / "metrics.json").read_text())
    assert metrics["mean_of"] == {"found": 1, Path(models[0]).name: 0, Path(models[1]).name: 2}
    assert "| mean " in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--mean_weights", 1, 1], "expected a number for each of BM25, teacher, student"),
        (["--mean_weights", 1, -1, 1], "got 1 -1 1"),
        (["--mean_weights", 0, 0, 1], "two of them above 0"),
        (["--mean_weights", 1, 1, "nan"], "got 1 1 nan"),
        (["--mean_weights", 1, 1, 1, "--retrieve"], "not for --retrieve"),
        (["--mean_weights", 1, 1, 1, "--name", "mean", "other"], "two rows of the table"),
    ],
)
def test_weights_that_make_no_mean_are_refused(models, beir, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        evaluate("--model", *models, "--data", beir, "--output", tmp_path, *flags)


def test_binary_measures_start_at_the_relevance_level_and_the_table_says_so(beir, tmp_path):
    (binary,) = evaluate("--data", beir, "--output", tmp_path / "1")
    (strict,) = evaluate("--data", beir, "--relevance_level", 2, "--output", tmp_path / "2")
    # only q2 has a document of grade 2
    assert {q for q, values in strict.evaluation.per_query.items() if values["MRR@10"] > 0} == {"q2"}
    assert binary.evaluation.values["MRR@10"] > strict.evaluation.values["MRR@10"]
    assert binary.evaluation.values["nDCG@10"] == strict.evaluation.values["nDCG@10"]
    said = [(tmp_path / level / "table.md").read_text() for level in "12"]
    assert "MRR@10, Recall@100: relevant from grade 1 (TREC Deep Learning counts from 2); nDCG: graded" in said[0]
    assert "relevant from grade 2 (as TREC Deep Learning counts)" in said[1]
    assert json.loads((tmp_path / "2" / "bm25" / "metrics.json").read_text())["candidate_recall"] == pytest.approx(
        1 / 3
    )


def test_a_bare_encoder_takes_its_pooling_beside_models_that_have_their_own(models, encoder, beir, tmp_path):
    arguments = ["--data", beir, "--depth", 3, "--dtype", "float32", "--output", tmp_path / "out", "--pooling", "mean"]
    *_, student, bare = evaluate("--model", models[1], encoder, *arguments)
    (alone,) = evaluate("--model", models[1], *arguments[:-2])[1:]
    assert student.run == alone.run
    assert bare.run.keys() == student.run.keys()


def test_a_language_model_reranks_by_its_prompt(beir, tmp_path):
    folder = judges.save_judge(tmp_path / "llm", "qwen3")
    arguments = ["--data", beir, "--depth", 3, "--dtype", "float32", "--output", tmp_path / "out"]
    *_, judged = evaluate("--model", folder, "--template", "qwen3-reranker", *arguments)
    judge = Judge.from_pretrained(folder, "float32", template="qwen3-reranker")
    for query, scores in judged.run.items():
        texts = [tiny.DOCUMENTS[name] for name in scores]
        assert list(scores.values()) == pytest.approx(judge.score([tiny.QUERIES[query]] * len(texts), texts), abs=1e-4)


def test_candidates_of_a_run_file_bound_what_can_be_reached(models, beir, tmp_path):
    write_run(tmp_path / "run.trec", {"q1": {"d1": 2.0, "d3": 1.0}, "q2": {"d7": 1.0}, "other": {"d1": 1.0}}, "first")
    arguments = ["--model", models[1], "--data", beir, "--candidates", tmp_path / "run.trec"]
    first, student = evaluate(*arguments, "--output", tmp_path / "out")
    assert first.evaluation.values["MRR@10"] == pytest.approx((1 + 1 + 0) / 3)  # q3 is missing and stays in the mean
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["candidate_recall"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert {query: set(scores) for query, scores in student.run.items()} == {"q1": {"d1", "d3"}, "q2": {"d7"}}
    assert len(evaluate(*arguments, "--output", tmp_path / "out", "--baseline", "run")) == 2


def test_other_files_of_lists_have_no_scores_of_their_own(models, beir, tmp_path):
    (tmp_path / "msmarco.tsv").write_text("q1\td1\t1\nq1\td3\t2\nq1\td2\t3\nq2\td7\t1\n")
    arguments = ["--model", models[1], "--data", beir, "--candidates", tmp_path / "msmarco.tsv"]
    (student,) = evaluate(*arguments, "--output", tmp_path / "out")
    assert {query: set(scores) for query, scores in student.run.items()} == {"q1": {"d1", "d2", "d3"}, "q2": {"d7"}}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["candidate_recall"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert (metrics["candidates"], metrics["data"]) == ("the lists of msmarco.tsv", Path(beir).name)
    with pytest.raises(InputError, match="no row is called 'BM25'; there are student"):
        evaluate(*arguments, "--output", tmp_path / "out", "--baseline", "BM25")


def test_ranking_lists_are_judged_by_their_own_labels(models, tmp_path):
    documents = DocumentTable.from_texts(list(tiny.DOCUMENTS), list(tiny.DOCUMENTS.values()))
    rows = [{"query_id": "q1", "query": "sum", "document_ids": ["d1", "d2", "d3"], "labels": [1, 0, 0]}]
    RankingLists(write_rows(rows, ROW_FEATURES), documents).save(tmp_path / "lists")
    arguments = ["--model", models[1], "--candidates", tmp_path / "lists", "--output", tmp_path / "out"]
    (student,) = evaluate(*arguments)  # no row for BM25, whose scores are not known
    assert set(student.run["q1"]) == {"d1", "d2", "d3"}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["data"], metrics["split"], metrics["candidate_recall"]) == ("lists", None, None)
    assert "lists: 1 queries, re-ranking" in (tmp_path / "out" / "table.md").read_text()
    with pytest.raises(InputError, match="--qrels: ranking lists are judged by their own labels"):
        evaluate(*arguments, "--qrels", tmp_path / "qrels.tsv")


def test_reranking_takes_the_embeddings_that_a_search_left_in_the_cache(models, beir, tmp_path, monkeypatch):
    arguments = ["--model", models[1], "--data", beir, "--depth", 2, "--dtype", "float32"]
    evaluate(*arguments, "--output", tmp_path / "anew")
    evaluate(*arguments, "--retrieve", "--output", tmp_path / "searched")
    embed, embedded = DenseScorer.encode, []
    monkeypatch.setattr(DenseScorer, "encode", lambda self, *texts: embedded.append(texts[1]) or embed(self, *texts))
    evaluate(*arguments, "--output", tmp_path / "cached")
    assert embedded == ["query"]
    anew, cached = (read_run(tmp_path / name / "run.trec") for name in ("anew", "cached"))
    assert anew.keys() == cached.keys() and len(anew) == 3
    for query, scores in anew.items():
        assert cached[query] == pytest.approx(scores, rel=1e-5)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("anew", "cached")]
    assert ["documents_per_second" in values for values in metrics] == [True, False]


def test_reranking_leaves_an_encoding_of_fewer_bits_alone(models, beir, tmp_path):
    arguments = ["--model", models[1], "--data", beir, "--dtype", "float32"]
    encode.main(*parse(encode.make_parser(), [*map(str, arguments), "--number_format", "int8"]))
    evaluate(*arguments, "--depth", 2, "--output", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["documents_per_second"] > 0


def test_retrieval_searches_everything_and_reports_what_an_index_loses(models, beir, tmp_path):
    pytest.importorskip("faiss")
    arguments = ["--data", beir, "--retrieve", "--depth", 4, "--dtype", "float32"]
    systems = {
        system.name: system for system in evaluate("--model", *models, *arguments, "--output", tmp_path / "exact")
    }
    assert list(systems) == ["BM25", "teacher", "student"]
    assert [len(scores) for scores in systems["student"].run.values()] == [4, 4, 4]
    assert "searching all 7 documents" in (tmp_path / "exact" / "table.md").read_text()
    arguments += ["--model", models[1], "--output", tmp_path / "index"]
    flat, cells = (evaluate(*arguments, "--index", index)[1] for index in ("Flat", "IVF4,Flat"))
    assert flat.run.keys() == systems["student"].run.keys()
    for query, scores in flat.run.items():
        assert scores == pytest.approx(systems["student"].run[query])
    assert flat.facts["index_recall"] == 1.0
    found = [len(set(scores) & set(systems["student"].run[query])) / 4 for query, scores in cells.run.items()]
    found_share = cells.facts["index_recall"]
    assert found_share == pytest.approx(sum(found) / 3)
    assert found_share < 1
    metrics = json.loads((tmp_path / "index" / "metrics.json").read_text())
    assert (metrics["index"], metrics["probes"], metrics["index_recall"]) == ("IVF4,Flat", None, found_share)


def test_an_index_that_the_collection_is_too_small_for_is_named(models, beir, tmp_path):
    pytest.importorskip("faiss")
    arguments = ["--model", models[1], "--data", beir, "--retrieve", "--output", tmp_path / "out"]
    arguments += ["--index", "IVF64,Flat"]
    with pytest.raises(InputError, match=r"--index IVF64,Flat: .*7 embeddings"):
        evaluate(*arguments)


@pytest.mark.parametrize("options", [[], ["--retrieve"]])
def test_ids_that_no_run_file_can_hold_are_named_before_a_model_is_loaded(models, tmp_path, monkeypatch, options):
    beir = Path(tiny.write_beir(tmp_path / "words"))
    for path in (beir / "corpus.jsonl", beir / "qrels" / "test.tsv"):
        path.write_text(path.read_text().replace("d4", "d 4"))
    monkeypatch.setattr(models_script, "load_scorer", None)
    with pytest.raises(InputError, match="document id 'd 4' cannot be written to a TREC run file"):
        evaluate("--model", models[1], "--data", beir, "--output", tmp_path / "out", *options)


def test_skipped_queries_are_the_first_of_those_that_are_measured(beir, tmp_path):
    first, rest, whole = (
        set(evaluate("--data", beir, *flags, "--output", tmp_path)[0].run)
        for flags in (("--max_queries", 2), ("--skip_queries", 2), ())
    )
    assert len(first) == 2 and first | rest == whole and not first & rest
    with pytest.raises(InputError, match=r"--skip_queries: expected 0 or more, and fewer than the \d+ judged"):
        evaluate("--data", beir, "--skip_queries", 100, "--output", tmp_path)


def test_max_queries_takes_the_same_queries_whatever_the_models(beir, tmp_path):
    chosen = [list(evaluate("--data", beir, "--max_queries", 2, "--output", tmp_path)[0].run) for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "{model}", "--name", "a", "b"], "2 names for 1 models"),
        (["--model", "{model}", "--name", "bm25"], "'bm25' would stand for two rows"),
        (["--candidates", "nothing.trec"], "nothing.trec does not exist"),
        (["--candidates", "own"], "brings no lists of its own"),
        (["--depth", "0"], "--depth: expected at least 1"),
        (["--max_queries", "0"], "--max_queries: expected at least 1"),
        (["--baseline", "CA"], "no row is called 'CA'"),
        (["--index", "Flat"], "--index and --probes are for --retrieve"),
        (["--retrieve", "--probes", "3"], "--probes: say with --index"),
        (["--model", "{model}", "--retrieve", "--index", "Nonsense7"], "--index Nonsense7"),
        (["--model", "{model}", "--retrieve", "--index", "PQ5"], r"--index PQ5: .*embeddings of 16 numbers"),
        (["--model", "{model}", "--retrieve", "--index", "Flat", "--probes", "3"], "--probes is for IVF indexes only"),
        (["--model", "{model}", "--pooling", "mean"], "each of these models has its own"),
        (["--model", "{encoder}"], "is a bare encoder: say how to pool its tokens"),
        (["--model", "{encoder}", "--pooling", "max"], "--pooling: expected cls, mean, last, got 'max'"),
        (["--model", "{model}", "--template", "monot5"], "--template is for language models; none of these models is"),
        (["--model", "{model}", "--dtype", "float8"], "expected auto, float32 or bfloat16, got 'float8'"),
        (["--model", "{data}"], "it has no config.json"),
        (["--split", "dev"], "no split 'dev'"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(models, encoder, beir, tmp_path, flags, message):
    flags = [flag.format(model=models[1], data=beir, encoder=encoder) for flag in flags]
    with pytest.raises(InputError, match=message):
        evaluate("--data", beir, *flags, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("**/bm25-*"))  # nor was an index built
