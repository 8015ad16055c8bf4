import json
import re

import numpy as np
import pytest

from m3se.run_scripts import evaluate, index, search
from m3se.run_scripts.cli.app import parse
from m3se.trainers.data import read_data
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import read_run
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.stores.document_store import open_store
from tests.worlds import words as tiny


# gRPC's threads stay in the process; other tests of it start programs.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, a collection in BEIR's layout, and a database of both."""
    folder = tmp_path_factory.mktemp("world")
    world = {"model": tiny.save_dual_encoder(folder / "model"), "data": tiny.write_beir(folder / "words")}
    world |= {"store": str(folder / "words.db"), "cache": str(folder / "cache")}
    run(index, world)
    return world


def run(script, world, *words, model="model", rest=True):
    options = ["--store", world["store"], "--cache_dir", world["cache"]]
    if rest:
        options += ["--model", world[model], "--data", world["data"], "--dtype", "float32"]
    script.main(*parse(script.make_parser(), [*options, *map(str, words)]))


def stored(world):
    """All that the database returns for one query, by id."""
    with open_store(world["store"], "documents") as store:
        hits = next(store.search(np.ones((1, store.width), np.float32), 100, with_texts=True))
    return {hit.id: hit.text for hit in hits}


def test_search_prints_the_documents_of_the_database(world, capsys):
    run(search, world, "--top", 3, "vector sum", "read the file")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("7 documents searched")
    scorer, documents = load_embedder(world["model"], "float32"), read_data(world["data"], "test").documents
    scores = scorer.score_matrix(["vector sum", "read the file"], documents.texts(list(documents.ids)))
    for query, start in ((0, 2), (1, 10)):
        best = sorted(zip(scores[query], documents.ids, strict=True), reverse=True)[:3]
        for rank, (score, name) in enumerate(best):
            number, shown, document = lines[start + 1 + 2 * rank].split()
            assert (number, document) == (f"{rank + 1}.", name)
            assert float(shown) == pytest.approx(score, abs=1e-3)
            assert lines[start + 2 + 2 * rank].strip() == tiny.DOCUMENTS[name][:100]


def test_search_obeys_a_condition(world, capsys):
    run(search, world, "--where", 'id in ["d2", "d5"]', "sort")
    assert set(re.findall(r" (d\d)$", capsys.readouterr().out, re.M)) == {"d2", "d5"}


def test_evaluate_ranks_by_the_database_as_by_the_embeddings(world, tmp_path):
    run(evaluate, world, "--retrieve", "true", "--depth", 5, "--output", tmp_path / "store")
    words = ["--model", world["model"], "--data", world["data"], "--cache_dir", world["cache"], "--retrieve", "true"]
    words += ["--depth", "5", "--dtype", "float32", "--output", str(tmp_path / "files")]
    evaluate.main(*parse(evaluate.make_parser(), words))
    first, second = (read_run(tmp_path / name / "run.trec") for name in ("store", "files"))
    assert {query: list(scores) for query, scores in first.items()} == {
        query: list(scores) for query, scores in second.items()
    }
    facts = json.loads((tmp_path / "store" / "metrics.json").read_text())
    assert facts["store"] == world["store"] and facts["index"] == "FLAT"


def test_an_approximate_index_reports_what_it_loses(world, tmp_path, caplog):
    other = world | {"store": str(tmp_path / "approximate.db")}
    with caplog.at_level("INFO"):
        run(index, other, "--index_type", "IVF_FLAT", "--effort", 256)
    assert "IVF_FLAT finds 100.0% of the exact 10 best for 7 documents taken as queries" in caplog.messages
    run(evaluate, other, "--retrieve", "true", "--depth", 5, "--effort", 256, "--output", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["index_recall"] == 1.0


def test_documents_are_added_replaced_and_deleted(world, tmp_path, caplog):
    other = world | {"store": str(tmp_path / "changing.db")}
    run(index, other)
    file = tmp_path / "more.jsonl"
    rows = [{"_id": "d8", "text": "open the file"}, {"_id": "d1", "title": "vector", "text": "matrix sum"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(index, other, "--add", file)
    expected = tiny.DOCUMENTS | {"d8": "open the file", "d1": "vector matrix sum"}
    assert stored(other) == expected
    with caplog.at_level("INFO"):
        run(index, other, "--delete", "d8", "d2", "d9", rest=False)
    assert stored(other) == {name: text for name, text in expected.items() if name not in ("d8", "d2")}
    assert f"{other['store']}: 1 documents were not there: d9" in caplog.messages
    assert f"{other['store']}: 2 documents deleted, 6 left" in caplog.messages
    with caplog.at_level("INFO"):  # what the data have and the database has not, or has otherwise, comes back
        run(index, other)
    assert f"{other['store']}: 2 documents put, 7 there" in caplog.messages
    assert stored(other) == tiny.DOCUMENTS


@pytest.mark.parametrize("script", [index, search, evaluate])
def test_another_model_is_refused(world, tmp_path, script):
    world = world | {"other": tiny.save_dual_encoder(tmp_path / "other", seed=9), "cache": str(tmp_path / "cache")}
    words = {search: ["sum"], evaluate: ["--retrieve", "true", "--output", tmp_path / "out"]}.get(script, [])
    with pytest.raises(InputError, match="documents was embedded by model .*, this model is"):
        run(script, world, *words, model="other")


def test_options_that_do_not_go_together_are_refused_first(world, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--index_type: expected one of FLAT, IVF_FLAT, .* got 'PQ'"):
        run(index, world, "--index_type", "PQ")
    with pytest.raises(InputError, match="--delete: goes without --add and --model"):
        run(index, world, "--delete", "d1")
    with pytest.raises(InputError, match="--model: expected the model"):
        run(index, world, rest=False)
    with pytest.raises(InputError, match="more.jsonl: no such file"):
        run(index, world, "--add", tmp_path / "more.jsonl")
    with pytest.raises(InputError, match="--store: goes with --retrieve"):
        run(evaluate, world, "--output", tmp_path / "out")
    with pytest.raises(InputError, match="--where and --effort are for --store"):
        words = ["--model", world["model"], "--where", "id", "query"]
        search.main(*parse(search.make_parser(), words))
    monkeypatch.setattr("m3se.trainers.stores.connection.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--store needs pymilvus: pip install 'm3se\[store\]'"):
        run(index, world)
