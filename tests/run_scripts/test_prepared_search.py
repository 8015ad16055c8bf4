"""Searches without torch: prepared by the search before them, and equal to it."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.search import main, make_parser, search_prepared
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.prepared import preparing
from m3se.trainers.storage.state import State, files_below
from tests.worlds import words


QUERIES = ["vector sum", "read the file that nobody wrote", ""]


@pytest.fixture(scope="module", autouse=True)
def onnx():
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)


def arguments(world: Path, *flags: str) -> list[str]:
    return ["--model", f"{world}/model", "--data", f"{world}/data", "--cache_dir", f"{world}/cache", *flags, *QUERIES]


def answers(output: str) -> list[str]:
    """The lines after the first, which has a time in it."""
    return output.splitlines()[1:]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A model with a prompt, a collection, and what the search that prepared them printed."""
    world = tmp_path_factory.mktemp("world")
    words.save_dual_encoder(world / "model", query_prompt="open ", normalize=True)
    words.write_beir(world / "data")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main(*parse(make_parser(), arguments(world)))
    return world, answers(output.getvalue())


def prepared(world: Path, capsys, *flags: str) -> list[str] | None:
    capsys.readouterr()
    done = search_prepared(*parse(make_parser(), arguments(world, *flags)))
    return answers(capsys.readouterr().out) if done else None


def test_a_prepared_search_prints_the_same_without_torch(searched):
    world, expected = searched
    program = (
        "import runpy, sys; sys.argv[0] = 'search'; "
        "runpy.run_module('m3se.run_scripts.search', run_name='__main__'); "
        "assert not {'torch', 'transformers', 'datasets'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments(world)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert answers(done.stdout) == expected and not done.stderr


def test_fewer_documents_are_the_first_of_more(searched, capsys):
    world, expected = searched
    best = [line for line in expected if line.startswith("  1.")]
    assert [line for line in prepared(world, capsys, "--top", "1") if line.startswith("  1.")] == best


@pytest.mark.parametrize("flags", [["--dtype", "float32"], ["--backend", "onnx"], ["--pooling", "mean"]])
def test_other_options_are_not_served(searched, capsys, flags):
    assert prepared(searched[0], capsys, *flags) is None


def test_a_change_of_the_data_is_seen(searched, capsys):
    world, expected = searched
    added = world / "data" / "note.txt"
    added.write_text("later", encoding="utf-8")
    assert prepared(world, capsys) is None
    added.unlink()
    assert prepared(world, capsys) == expected


def test_a_change_of_the_model_is_seen(searched, capsys):
    world, expected = searched
    config = world / "model" / "config.json"
    status = config.stat()
    os.utime(config, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert prepared(world, capsys) is None
    os.utime(config, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert prepared(world, capsys) == expected


def test_damage_is_left_to_the_search_that_makes_files_again(searched, capsys):
    world, expected = searched
    file = next((world / "cache").glob("query-*/query.onnx"))
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert prepared(world, capsys) is None
    file.write_bytes(content)
    assert prepared(world, capsys) == expected


def test_a_record_that_is_cut_off_is_none(searched, capsys):
    world, expected = searched
    file = next((world / "cache").glob("search-*.json"))
    text = file.read_text(encoding="utf-8")
    file.write_text(text[:-10], encoding="utf-8")
    assert prepared(world, capsys) is None
    file.write_text(text, encoding="utf-8")
    assert prepared(world, capsys) == expected


def test_a_model_that_cannot_be_converted_is_searched_all_the_same(tmp_path, monkeypatch, capsys, caplog):
    def refuse(*arguments):
        raise InputError("onnx: a model of this kind cannot be converted")

    monkeypatch.setattr(preparing, "convert", refuse)
    words.save_dual_encoder(tmp_path / "model")
    words.write_beir(tmp_path / "data")
    main(*parse(make_parser(), arguments(tmp_path)))
    assert capsys.readouterr().out.startswith("7 documents searched")
    assert "later searches need torch too: onnx" in caplog.text
    assert not list((tmp_path / "cache").glob("search-*.json"))


def test_another_version_of_a_package_is_another_state(tmp_path):
    (tmp_path / "a").write_text("text", encoding="utf-8")
    state = State.read([tmp_path], ["numpy", "no-such-distribution"])
    assert state.is_current() and state.packages["no-such-distribution"] is None
    assert json.loads(json.dumps(files_below(tmp_path))) == state.files[str(tmp_path)]
    assert not State(state.files, state.packages | {"numpy": "0.1"}).is_current()
