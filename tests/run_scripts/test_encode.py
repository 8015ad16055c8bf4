import os
import socket
from multiprocessing import get_context
from pathlib import Path

import pytest

from run_scripts.cli import parse
from run_scripts.encode import main, make_parser
from tests.trainers.evaluation import tiny
from trainers.errors import InputError
from trainers.evaluation.encoded import EncodedCollection


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


def encode_as_rank(rank: int, port: int, argv: list[str]) -> None:
    """What a launcher of two processes starts."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main(*parse(make_parser(), argv))


def test_two_processes_of_a_launch_write_what_one_writes(model, beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the cache ends up there
    main(*parse(make_parser(), arguments(model, beir, tmp_path / "one")))
    assert len(EncodedCollection(tmp_path / "one")) == 7
    context = get_context("forkserver")
    context.set_forkserver_preload(["run_scripts.encode"])  # imported once for both
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [*arguments(model, beir, tmp_path / "two"), "--cache_dir", "other"]
    ranks = [context.Process(target=encode_as_rank, args=(rank, port, argv), daemon=True) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=300)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_refuses_what_it_could_not_encode(model, beir, tmp_path):
    with pytest.raises(InputError, match="float32, float16, int8, got 'int3'"):
        main(*parse(make_parser(), [*arguments(model, beir, tmp_path / "out"), "--number_format", "int3"]))
    assert not (tmp_path / "out").exists()
