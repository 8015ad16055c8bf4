"""A launched command uses every core of this machine, unless the user chose a number of threads."""

import os
import subprocess
import sys

import pytest

from m3se.run_scripts.cli.threads import available_cores


SCRIPT = """
import torch
from m3se.run_scripts.cli.threads import use_all_cores
use_all_cores()
print("threads", torch.get_num_threads())
"""
ACCELERATE = ["-m", "accelerate.commands.launch", "--num_processes", "1"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node"]
CORES = available_cores()


@pytest.mark.long
@pytest.mark.parametrize(
    ("launcher", "chosen", "threads"),
    [
        (ACCELERATE, None, CORES),
        ([*TORCHRUN, "2"], None, max(1, CORES // 2)),
        ([*ACCELERATE, "--num_cpu_threads_per_process", "1"], None, 1),
        (ACCELERATE, "1", 1),
    ],
    ids=["one process", "two processes", "option", "variable"],
)
def test_cores_are_shared_among_the_processes_unless_the_user_chose(tmp_path, launcher, chosen, threads):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if chosen:
        environment["OMP_NUM_THREADS"] = chosen
    command = [sys.executable, *launcher, str(tmp_path / "script.py")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith("threads ")]
    assert lines and set(lines) == {f"threads {threads}"}
