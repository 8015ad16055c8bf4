import os
import subprocess
import sys
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


def test_two_processes_of_a_launch_write_what_one_writes(model, beir, tmp_path):
    main(*parse(make_parser(), [*arguments(model, beir, tmp_path / "one"), "--cache_dir", str(tmp_path / "cache")]))
    assert len(EncodedCollection(tmp_path / "one")) == 7
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = Path(__file__).parents[2] / "run_scripts" / "encode.py"
    command = [*launch, str(script), *arguments(model, beir, tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_refuses_what_it_could_not_encode(model, beir, tmp_path):
    with pytest.raises(InputError, match="float32, float16, int8, got 'int3'"):
        main(*parse(make_parser(), [*arguments(model, beir, tmp_path / "out"), "--number_format", "int3"]))
    assert not (tmp_path / "out").exists()
