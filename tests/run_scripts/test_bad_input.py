"""What a user gets wrong ends with one line that names it, status 2, and nothing written."""

import sys
from importlib import import_module

import pytest

from m3se.run_scripts.cli import app as cli
from tests.worlds.small_world import write_collection, write_encoder


OPTIONS = [
    *("--output_dir", "{tmp}/out", "--encoder", "{tmp}/encoder"),
    *("--dev_queries", "0", "--query_length", "8", "--document_length", "16"),
]
STUDENT = ["distill.py", *OPTIONS]
TEACHER = ["train_teacher.py", *OPTIONS]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_collection(root / "words")
    write_encoder(root / "encoder")
    (root / "no_model").mkdir()
    empty = write_collection(root / "empty")
    (empty / "corpus.jsonl").write_text("", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("command", "culprit"),
    [
        (["distill.py", "--recipe", "{tmp}/gone.yaml"], "gone.yaml: no such recipe"),
        ([*STUDENT, "--data", "{tmp}/gone"], "{tmp}/gone"),
        ([*STUDENT, "--data", "{tmp}/words", "--encoder", "{tmp}/no_model"], "{tmp}/no_model is not a model folder"),
        ([*TEACHER, "--data", "{tmp}/empty"], "corpus.jsonl"),
        ([*TEACHER, "--data", "{tmp}/words", "--documents_per_query", "59", "--depth", "59"], "59"),
        (
            [*TEACHER, "--data", "{tmp}/words", "--train_queries", "-1"],
            "expected a number of queries, 0 or more, got -1",
        ),
        (
            [*TEACHER, "--data", "{tmp}/words", "--dropout", "1.5"],
            "expected a rate of 0 or more and below 1, got 1.5",
        ),
        ([*TEACHER, "--data", "{tmp}/words", "--eval_strategy", "steps"], "dev_queries is 0, but eval_strategy steps"),
        (["search.py", "--model", "{tmp}/no_model", "--top", "0", "words"], "top: expected at least 1, got 0"),
        (["evaluate.py", "--model", "{tmp}/no_model", "--data", "{tmp}/words", "--output", "{tmp}/out"], "no_model"),
    ],
    ids=[
        "missing recipe",
        "missing lists",
        "folder without a model",
        "empty collection",
        "K too large",
        "negative",
        "dropout",
        "no dev",
        "no top",
        "no model",
    ],
)
def test_one_line_names_the_culprit(world, command, culprit, monkeypatch, capsys):
    name, *options = [part.format(tmp=world) for part in command]
    if "--data" in options:
        options += ["--cache_dir", str(world / "cache")]
    monkeypatch.setattr(sys, "argv", [name, *options])
    script = import_module(f"m3se.run_scripts.{name.removesuffix('.py')}")
    with pytest.raises(SystemExit) as ended:
        cli.run(script.make_parser, script.main)
    assert ended.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{name}: error:")]
    assert len(errors) == 1 and culprit.format(tmp=world) in errors[0]
    assert not (world / "out").exists()
