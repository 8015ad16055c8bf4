"""make_retriever.py on a small collection: with judgments and a teacher of its own, and without any judgment."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from m3se import DualEncoder, load_scorer
from m3se.run_scripts import search
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.retriever import measure, prepare
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.run_scripts.retriever.reuse import has_lists
from m3se.run_scripts.retriever.trials import TRIALS, best_value, find
from m3se.run_scripts.work import make_retriever
from m3se.trainers.data import BM25Index, RankingLists
from m3se.trainers.evaluation.run_metrics import evaluate_run
from m3se.trainers.teacher.list_teachers import read_scores
from tests.reliability.forked import Run
from tests.run_scripts.retriever_world import NAMESAKE, options, write, write_world
from tests.worlds import small_world


ROOT = Path(__file__).parents[2]
LABELLED = {"teacher": ["train", "start", "bm25"], "anyway": True, "hours": 0.02, "license": "apache-2.0", "rounds": 2}
TITLES = {"round2": "student, round 2"} | {trial.name: trial.title for trial in TRIALS}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("retriever"))


def run_script(**values) -> subprocess.CompletedProcess:
    command = [sys.executable, "run_scripts/make_retriever.py", *make_retriever.flags(**values)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def finished(world):
    ended = run_script(**options(world, **LABELLED))
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended


@pytest.mark.slow
def test_the_verdict_is_of_queries_that_nothing_was_chosen_by(world, finished):
    result = json.loads((world / "out" / "verdict.json").read_text())
    queries = {}
    for part in ("teacher", "train", "dev", "test"):
        queries[part] = set(RankingLists.load(world / "out" / "lists" / part).rows["query_id"])
    everything = [query for part in queries.values() for query in part]
    assert len(everything) == len(set(everything))
    assert queries["test"] == {query for query in everything if query.startswith("test")}
    assert result["queries"] == 20 and result["is_judged"]
    assert result["line"].startswith(("BETTER than the start: nDCG@10", "NOT BETTER than the start: nDCG@10"))
    assert result["line"] in finished.stdout


@pytest.mark.slow
def test_the_rows_are_what_the_published_model_gives(world, finished):
    result = json.loads((world / "out" / "verdict.json").read_text())
    lists = RankingLists.load(world / "out" / "scored" / "test")
    scorer = load_scorer(world / "out" / "model")
    run = {}
    for row, scores in zip(lists.rows, scorer.score_lists(lists, progress=False), strict=True):
        run[row["query_id"]] = dict(zip(row["document_ids"], scores, strict=True))
    qrels = json.loads((world / "out" / "qrels.test.json").read_text())
    expected = evaluate_run(run, qrels).values
    row = TITLES[result["chosen"]]
    assert result["values"]["re-ranking"][row]["nDCG@10"] == pytest.approx(expected["nDCG@10"], abs=1e-9)
    assert {"BM25", "start", row, "teacher"} <= result["values"]["re-ranking"].keys()
    assert "teacher" not in result["values"]["search"]


@pytest.mark.slow
def test_a_search_returns_all_documents_but_the_one_with_the_id_of_its_query(world, finished):
    result = json.loads((world / "out" / "verdict.json").read_text())
    lists = RankingLists.load(world / "out" / "lists" / "test")
    qrels = json.loads((world / "out" / "qrels.test.json").read_text())
    start, ids = load_scorer(world / "out" / "start"), lists.documents.ids
    embeddings = start.encode(lists.documents.texts(ids), "document")
    queries = start.encode(lists.rows["query"][:], "query")
    run = {}
    for query, scores in zip(lists.rows["query_id"], (queries @ embeddings.T).tolist(), strict=True):
        best = sorted(zip(ids, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))
        run[query] = dict([pair for pair in best if pair[0] != query][:100])
    assert len(run[NAMESAKE]) == 100
    assert result["values"]["search"]["start"] == pytest.approx(
        evaluate_run(run, qrels, None, measure.MEASURES).values
    )
    assert NAMESAKE not in lists.rows[list(lists.rows["query_id"]).index(NAMESAKE)]["document_ids"]


@pytest.mark.slow
def test_a_later_round_trains_the_best_student_on_what_it_ranks_high(world, finished):
    out = world / "out"
    values = json.loads((out / "verdict.json").read_text())["values"]["re-ranking"]
    assert "student, round 2" in values
    earlier = json.loads((out / "plan.json").read_text())["plan"]["trials"]
    arguments = RetrieverArguments(**options(world, **LABELLED))
    best = max(earlier, key=lambda name: best_value(arguments, find(name)))
    record = json.loads((out / "students" / "round2" / "training.json").read_text())
    assert record["options"]["encoder"] == str(out / "starts" / "round2")
    weights = [out / place / "model.safetensors" for place in (f"students/{best}", "starts/round2")]
    before, after = (list(load_file(path).values())[-1] for path in weights)
    assert torch.equal(before, after)
    rows = RankingLists.load(out / "scored" / "round2").rows
    assert len(rows) > 20 and not np.isnan(np.concatenate(rows["teacher_scores"])).any()


@pytest.mark.slow
def test_the_card_holds_the_verdict_and_the_next_commands_are_printed(world, finished):
    line = json.loads((world / "out" / "verdict.json").read_text())["line"]
    card = ModelCard.load(world / "out" / "model" / "README.md")
    assert line.split(" (")[0] in card.content
    values = json.loads((world / "out" / "verdict.json").read_text())["values"]["search"]
    chosen = TITLES[json.loads((world / "out" / "verdict.json").read_text())["chosen"]]
    stated = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert stated["nDCG@10"] == pytest.approx(values[chosen]["nDCG@10"], abs=1e-5)
    assert {(result.dataset_name, result.dataset_split) for result in card.data.eval_results} == {("data", "test")}
    assert f"m3se search --model {world / 'out' / 'model'} --data {world / 'data'}" in finished.stdout
    assert DualEncoder.from_pretrained(world / "out" / "model").config.query_length == 8


@pytest.mark.slow
def test_the_page_holds_the_verdict_and_the_table(world, finished):
    result = json.loads((world / "out" / "verdict.json").read_text())
    body = ElementTree.fromstring((world / "out" / "report.html").read_text()).find("body")
    assert body.find("p").text == result["line"]
    rows = {}
    for row in body.findall("div/table")[0].findall("tr")[1:]:
        name, task, value = (cell.text for cell in row.findall("td")[:3])
        rows[(name, task)] = value
    for task, systems in result["values"].items():
        for name, values in systems.items():
            assert rows.pop((name, task)).startswith(f"{values['nDCG@10']:.3f} [")
    assert not rows and len(body.findall("p/img")) == 3


@pytest.mark.slow
def test_plain_automodel_gives_the_embeddings_of_the_chosen_student(world, finished):
    chosen = json.loads((world / "out" / "verdict.json").read_text())["chosen"]
    published = AutoModel.from_pretrained(world / "out" / "model")
    trained = DualEncoder.from_pretrained(world / "out" / "students" / chosen).eval()
    tokenizer = AutoTokenizer.from_pretrained(world / "out" / "model")
    inputs = tokenizer(["red river", "stone"], padding=True, return_tensors="pt")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    hidden = published(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(mean, trained.embed(ids, mask))


@pytest.mark.slow
@pytest.mark.linux
def test_a_second_run_reuses_what_is_unchanged_and_says_so(world, finished):
    weights = (world / "out" / "model" / "model.safetensors").read_bytes()
    second = Run("make_retriever", options(world, **LABELLED), world).finish()
    assert second["status"] == 0, second["lines"]
    assert f"{world / 'out'}: nothing has changed since the lists were made; reused" in second["lines"]
    plan = json.loads((world / "out" / "plan.json").read_text())
    for place in ("teacher", *(f"students/{name}" for name in [*plan["plan"]["trials"], "round2"])):
        assert f"{world / 'out' / place}: nothing has changed since it was trained; reused" in second["lines"]
    assert (world / "out" / "model" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_lists_are_made_again_when_something_changes_that_decides_on_them(world, finished):
    arguments = RetrieverArguments(**options(world, **LABELLED))
    assert has_lists(arguments) and has_lists(replace(arguments, hours=3.0))
    assert not has_lists(replace(arguments, depth=9))
    for file in (world / "data" / "corpus.jsonl", world / "encoder" / "config.json"):
        status = file.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert not has_lists(arguments)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    for file in (world / "out" / "lists" / "dev" / "rows.arrow", world / "out" / "teachers" / "test" / "bm25"):
        file.rename(world / "aside")
        assert not has_lists(arguments)
        (world / "aside").rename(file)
    assert has_lists(arguments)


@pytest.mark.slow
def test_the_search_that_is_printed_is_prepared(world, finished, capsys):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    line = next(line for line in finished.stdout.splitlines() if line.startswith("  m3se search "))
    assert search.search_prepared(*parse(search.make_parser(), shlex.split(line)[2:]))
    assert capsys.readouterr().out.startswith("121 documents searched")


@pytest.mark.slow
@pytest.mark.long
def test_without_judgments_the_teacher_is_agreed_with_and_a_pipeline_can_require_more(world, finished):
    values = options(world, "agreed", data=str(world / "without"), teacher=str(world / "out" / "teacher"))
    write(world / "agreed" / "metrics.json", {"of": "an earlier run with judgments"})
    values |= {"candidate_shares": ["1", "2"], "max_score": 100.0, "negatives": "top"}
    ended = run_script(**values, require_better=True, hours=0.02, anyway=True)
    assert ended.returncode in (0, 1), ended.stderr[-2000:]
    result = json.loads((world / "agreed" / "verdict.json").read_text())
    dev = RankingLists.load(world / "agreed" / "lists" / "dev_by_teacher")
    best = int(np.argmax(dev.rows[0]["teacher_scores"]))
    assert dev.rows[0]["labels"][best] == 1 and 0 in dev.rows[0]["labels"]
    assert not result["is_judged"] and result["values"].keys() == {"re-ranking"}
    assert result["values"]["re-ranking"]["teacher"]["nDCG@10"] == pytest.approx(1.0)
    assert "nDCG@10 with the teacher's scores as gains" in result["line"]
    assert ended.returncode == int(not result["is_better"])
    assert "filter by teacher score" in ended.stdout and "max_score 100" in ended.stdout
    report = RankingLists.load(world / "agreed" / "scored" / "train").report["lists"]
    assert report["candidates"].startswith("33% BM25") and report["candidates"].endswith(" + 67% start")
    assert report["negatives"] == "top" and report["filters"]["bounds"] == {"max_score": 100.0}
    assert not (world / "agreed" / "metrics.json").exists()
    assert ModelCard.load(world / "agreed" / "model" / "README.md").data.eval_results is None


def test_queries_that_are_made_of_the_documents_are_trained_on_and_no_judgments_of_them_are_held_out(world, tmp_path):
    data = tmp_path / "documents"
    data.mkdir()
    shutil.copy(world / "data" / "corpus.jsonl", data)
    lines = [json.loads(line) for line in (data / "corpus.jsonl").read_text().splitlines()]
    long = [line | {"text": f"{line['text']} river. {line['text']} stone."} for line in lines]
    small_world.write_lines(data / "corpus.jsonl", long)
    changes = {"data": str(data), "teacher": ["elsewhere"], "synthetic_queries": "sentence"}
    parts, made = prepare.divide(RetrieverArguments(**options(world, **changes)))
    assert len(made.queries) > 80
    assert not parts.test.qrels and not parts.dev.qrels
    assert parts.train.qrels.keys() == parts.train.queries.keys() <= made.queries.keys()
    assert not parts.train.queries.keys() & (parts.test.queries.keys() | parts.dev.queries.keys())


@pytest.mark.slow
def test_the_start_and_bm25_score_every_pair_of_the_lists_as_they_do_alone(world, finished):
    lists = RankingLists.load(world / "out" / "lists" / "test")
    teachers = RankingLists.load(world / "out" / "scored" / "test").report["teachers"]
    assert [teacher["name"] for teacher in teachers] == ["teacher", "start", "bm25"]  # as the card calls them
    start, bm25 = (read_scores(world / "out" / "teachers" / "test" / name) for name in ("start", "bm25"))
    expected = load_scorer(world / "out" / "start").score_lists(lists, progress=False)
    index = BM25Index.build(lists.documents)
    for row, scores in zip(lists.rows, expected, strict=True):
        assert list(start[row["query_id"]].values()) == pytest.approx(scores, abs=1e-4)
        (ids,), (values,) = index.search([row["query"]], len(lists.documents))
        found = dict(zip(ids, values, strict=True))
        assert bm25[row["query_id"]] == {name: found.get(name, 0.0) for name in row["document_ids"]}
