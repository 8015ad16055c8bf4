"""Work before and beside the model: starting a script, and making tensors of texts."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from m3se.run_scripts.benchmarks.measuring import Run
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.steps import dual_encoder, our_step, our_trainer
from m3se.run_scripts.benchmarks.workload import Workload


SCRIPT = Path(__file__).parents[1] / "distill.py"
MODEL = "from m3se import DualEncoder"
LIBRARIES = "import torch; from transformers import AutoModel"


def start_of_package(workload: Workload) -> Row:
    """Compare importing a model with importing the libraries below it."""
    return start(MODEL, "-c", MODEL)


def start_of_script(workload: Workload) -> Row:
    """Compare showing a script's help with importing the libraries below it."""
    return start("distill.py --help", str(SCRIPT), "--help")


def start(work: str, *arguments: str) -> Row:
    """Make a row of starting Python."""
    libraries = {LIBRARIES: lambda: python("-c", LIBRARIES)}
    return Row(work, "Python", "starts/s", 1, {"": lambda: python(*arguments)}, libraries, has_memory=False)


def python(*arguments: str) -> Run:
    """Run Python on these arguments."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments]
    return partial(subprocess.run, command, stdout=subprocess.DEVNULL, check=True, env=environment)


def collation(workload: Workload) -> Row:
    """Compare tokenising and collating the batch of a step with the whole step."""
    lists = workload.lists(8)

    def build() -> Run:
        """Set up collation alone."""
        collator = our_trainer(dual_encoder(workload), lists, workload).data_collator
        rows = list(lists.rows)
        return lambda: collator(rows)

    return Row(
        "tokenising and collating, K = 8",
        "the whole step",
        "documents/s",
        sum(map(len, lists.rows["document_ids"])),
        {"": build},
        {"DistillationTrainer": lambda: our_step(dual_encoder(workload), lists, workload)},
        has_memory=False,
    )
