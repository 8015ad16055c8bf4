"""The commands with --backend openvino and int8, on a small collection."""

import json
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest

from m3se.run_scripts import encode, evaluate, score_with_teacher, search
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.retriever import gain
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.run_scripts.work import make_retriever
from m3se.trainers.backends.samples import held_out_lists
from m3se.trainers.data import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import read_run
from m3se.trainers.retrieval import encode_collection
from tests.worlds import small_world, tiny


pytestmark = pytest.mark.long
INT8 = ["--backend", "openvino", "--dtype", "int8"]


@pytest.fixture(scope="module", autouse=True)
def openvino():
    pytest.importorskip("nncf")
    return pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a collection, a dual encoder and a cross-encoder."""
    folder = tmp_path_factory.mktemp("world")
    small_world.write_collection(folder / "data")
    for name, model in (("de", tiny.dual_encoder()), ("ca", tiny.cross_encoder())):
        model.save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    return folder


def command(script, world, *argv):
    words = [*map(str, argv), "--data", str(world / "data"), "--cache_dir", str(world / "cache")]
    return script.main(*parse(script.make_parser(), words))


def test_what_encode_wrote_in_int8_search_finds_again(world, monkeypatch, capsys, caplog):
    caplog.set_level("INFO")
    command(encode, world, "--model", world / "de", *INT8)
    assert "int8 beside float32: Kendall τ " in caplog.text
    monkeypatch.setattr(encode_collection, "write_shard", None)  # nothing is embedded again
    command(search, world, "--model", world / "de", *INT8, "red tree")
    assert capsys.readouterr().out.startswith("60 documents searched")


def test_an_evaluation_states_what_int8_costs(world, tmp_path, capsys):
    models = ["--model", world / "de", world / "ca", "--depth", "5", "--output", tmp_path]
    int8 = command(evaluate, world, *models, *INT8)
    exact = command(evaluate, world, *models, "--dtype", "float32", "--output", tmp_path / "exact")
    lines = [line for line in capsys.readouterr().out.splitlines() if " in int8: " in line]
    for line, name, system, reference in zip(lines, ("de", "ca"), int8[1:], exact[1:], strict=True):
        stated = json.loads((tmp_path / name / "metrics.json").read_text())["int8"]
        queries = list(read_run(tmp_path / name / "run.trec"))
        held_out = sorted(queries, key=lambda query: blake2b(query.encode(), digest_size=8).digest())[3:]
        values = {}
        for key, row in (("nDCG@10", system), ("float32_nDCG@10", reference)):
            values[key] = sum(row.evaluation.per_query[query]["nDCG@10"] for query in held_out) / len(held_out)
            assert stated[key] == pytest.approx(values[key])
        assert line.startswith(f"{name} in int8: nDCG@10 {values['nDCG@10']:.4f}, in float32 ")
        assert "on 3 held-out queries; Kendall τ" in line


def test_an_evaluation_of_the_whole_collection_measures_int8_on_the_candidates_of_bm25(world, tmp_path):
    arguments = ["--model", world / "de", "--depth", "60", "--output", tmp_path, "--retrieve"]
    _, row = command(evaluate, world, *arguments, *INT8)
    _, exact = command(evaluate, world, *arguments, "--dtype", "float32")
    assert (row.facts["backend"], row.facts["int8"]["queries_compared"]) == ("openvino", 3)
    assert row.run.keys() == exact.run.keys()
    for query, scores in row.run.items():
        values = [scores[document] for document in exact.run[query]]
        assert values != list(exact.run[query].values())
        assert np.corrcoef(values, list(exact.run[query].values()))[0, 1] > 0.7


def test_scores_in_int8_are_cached_apart_and_the_report_says_how_far_their_margins_moved(world, tmp_path, caplog):
    caplog.set_level("INFO")
    lists = ["--teacher", world / "ca", world / "de", "--documents_per_query", "4", "--depth", "10"]
    command(score_with_teacher, world, *lists, "--dtype", "float32", "--output", tmp_path / "exact")
    caplog.clear()
    command(score_with_teacher, world, *lists, *INT8, "--output", tmp_path / "int8")
    assert "teacher ca: 48 pairs scored, 0 reused" in caplog.text
    exact, int8 = RankingLists.load(tmp_path / "exact"), RankingLists.load(tmp_path / "int8")
    for number, name in enumerate(("ca", "de")):
        entry = int8.report["teachers"][number]
        loss = entry["beside_float32"]
        assert (entry["name"], entry["backend"], entry["dtype"], loss["queries"]) == (name, "openvino", "int8", 6)
        column, measured = f"teacher_scores_{number}", held_out_lists(exact, 6).rows["query_id"][:]
        scores = [dict(zip(lists.rows["query_id"][:], lists.rows[column][:], strict=True)) for lists in (exact, int8)]
        moved = []
        for query in measured:
            change = np.subtract(scores[1][query], scores[0][query])
            moved += [abs(a - b) for place, a in enumerate(change) for b in change[place + 1 :]]
        assert 0 < loss["margin_moved"] == pytest.approx(np.mean(moved), rel=1e-3)
        assert f"teacher {name} in int8 beside float32: Kendall τ {loss['kendall_tau']:.3f}" in caplog.text


def test_int8_without_a_library_that_has_it_is_refused_before_any_work(world, tmp_path):
    with pytest.raises(InputError, match="torch has no int8 here; add --backend openvino or --backend onnx"):
        command(evaluate, world, "--model", "no/model", "--dtype", "int8", "--output", tmp_path)


def test_a_retriever_is_made_with_teachers_in_int8(world, tmp_path):
    """Its own scoring and its estimate of the time share one int8."""
    arguments = RetrieverArguments(
        data=str(world / "data"),
        output=str(tmp_path),
        teacher=[str(world / "ca")],
        cache_dir=str(world / "cache"),
        backend="openvino",
        dtype="int8",
    )
    lists = ["--documents_per_query", "4", "--depth", "10", "--output", tmp_path / "lists"]
    command(score_with_teacher, world, "--teacher", world / "ca", *INT8, *lists)
    RankingLists.load(tmp_path / "lists").save(arguments.lists("dev"))
    make_retriever.score(arguments, "dev")
    made = set((world / "cache").glob("compiled-*"))
    assert gain.seconds_per_pair(arguments, RankingLists.load(arguments.scored("dev"))) > 0
    assert set((world / "cache").glob("compiled-*")) == made
    (entry,) = RankingLists.load(arguments.scored("dev")).report["teachers"]
    assert (entry["backend"], entry["dtype"]) == ("openvino", "int8")
    with pytest.raises(InputError, match="torch has no int8 here"):
        make_retriever.check(replace(arguments, backend="torch"))
