from pathlib import Path

import pytest

from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.encode import main, make_parser
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from tests.launch import launch
from tests.worlds import words as tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_dual_encoder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def beir(tmp_path_factory):
    return tiny.write_beir(tmp_path_factory.mktemp("data") / "words")


def arguments(model, beir, folder):
    return ["--model", model, "--data", beir, "--output", str(folder), "--shard_size", "2", "--dtype", "float32"]


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def encode(argv: list[str]) -> None:
    main(*parse(make_parser(), argv))


@pytest.mark.linux
def test_two_processes_of_a_launch_write_what_one_writes(model, beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the cache ends up there
    main(*parse(make_parser(), arguments(model, beir, tmp_path / "one")))
    assert len(EmbeddedCollection(tmp_path / "one")) == 7
    launch(encode, [*arguments(model, beir, tmp_path / "two"), "--cache_dir", "other"])
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_refuses_what_it_could_not_encode(model, beir, tmp_path):
    with pytest.raises(InputError, match="float32, float16, int8, got 'int3'"):
        main(*parse(make_parser(), [*arguments(model, beir, tmp_path / "out"), "--number_format", "int3"]))
    assert not (tmp_path / "out").exists()
