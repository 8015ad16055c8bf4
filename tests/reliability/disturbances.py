"""The stages, disturbed in a few ways: in short what `tests.reliability.programs.kill_matrix` does for long."""

import ctypes
import hashlib
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from m3se.run_scripts.work import models
from tests.hub_server import serve
from tests.launch import environments
from tests.reliability.forked import Run
from tests.reliability.programs.kill_matrix import matrix, prepare
from tests.reliability.stages import Stage, stages


KILLS = {"training": 2, "encoding": 1, "indexing": 2, "evaluating": 1, "publishing": 2}
READ_ONLY = ("training", "encoding", "evaluating", "publishing")
FULL = {"training": 3_000, "encoding": 150, "publishing": 3_000}  # bytes of the largest file


def has_checkpoint(stage: Stage) -> bool:
    """Decide whether the training has a complete checkpoint."""
    return any(stage.folder.glob("student/checkpoint-*/SHA256SUMS"))


def interrupt(stage: Stage, number: signal.Signals) -> dict:
    """Let a training that has a checkpoint get a signal, then train on."""
    stage.fresh()
    first = stage.start(moment=partial(has_checkpoint, stage), number=number).finish()
    return {"first": first, "second": stage.start().finish(), "artefacts": stage.artefacts()}


def hang() -> None:
    """Make the encoder wait in a library, where Python's signal handlers do not run."""

    def never(*_, **__):
        sys.stderr.write("waiting\n")
        sys.stderr.flush()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

    models.load_searcher = never


def interrupt_in_a_library(stage: Stage) -> dict:
    """Send SIGTERM to an encoder that waits in a library."""
    stage.fresh()
    run = Run(stage.script, stage.flags, stage.folder.parent, before=hang)
    next(line for line in run.reader if "waiting" in line)
    run.signal(signal.SIGTERM)
    return run.finish()


def meet(stage: Stage) -> dict:
    """Start a second training in the folder of a first one, which is then killed; then a third."""
    stage.fresh()
    first = stage.start(moment=partial(has_checkpoint, stage), number=signal.SIGSTOP)
    first.wait_until_stopped()  # it holds the folder, and is not done before the second has tried
    second = stage.start().finish()
    first.kill()
    first.finish()
    third = stage.start().finish()
    left = [path.name for path in stage.folder.glob(".*.lock")]
    return {"pid": first.pid, "second": second, "third": third, "artefacts": stage.artefacts(), "left": left}


def lose_a_rank(stage: Stage) -> dict:
    """Start two processes of one launch; kill the second while they train."""
    stage.fresh()
    flags = stage.flags | {"max_steps": 5_000, "eval_strategy": "no", "ddp_backend": "gloo", "use_cpu": True}
    with environments() as ranks:
        first, second = (Run(stage.script, flags, stage.folder.parent, **rank) for rank in ranks)
        first.wait_for(partial(has_checkpoint, stage))
        second.kill()
        finished = first.finish()
        second.finish()
    return finished


def fill_the_disk(stage: Stage) -> dict:
    """Limit the size of files, and then do not."""
    stage.fresh()
    first = stage.start(largest_file=FULL[stage.name]).finish()
    return {"first": first, "artefacts": stage.artefacts(), "second": stage.start().finish()}


def forbid_writing(stage: Stage) -> dict:
    """Let the stage's folder be read-only; what is prepared goes elsewhere."""
    stage.fresh()
    stage.folder.chmod(0o555)
    flags = {
        name: stage.folder.with_name("cache") if name == "cache_dir" else value for name, value in stage.flags.items()
    }

    def before() -> None:
        obey_permissions()
        if stage.before:
            stage.before()

    finished = Run(stage.script, flags, stage.folder.parent, before=before, **stage.environment).finish()
    left = [path.name for path in stage.folder.iterdir()]
    stage.folder.chmod(0o755)
    return finished | {"left": left}


def obey_permissions() -> None:
    """Give up all capabilities, by which root writes wherever it likes."""
    version, this_process = 0x20080522, 0
    if ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(version, this_process), (ctypes.c_uint32 * 6)()):
        raise OSError("capabilities cannot be given up")


def disturb(folder: Path) -> dict:
    """Run every disturbance; return what happened by its name."""
    with serve() as hub:
        made = stages(folder, hub)
        training, trained = made["training"], prepare(folder, made)
        undisturbed = {"training": trained}
        kills = {}
        for name, count in KILLS.items():
            kills[name] = asdict(matrix(made[name], count, 0, left_alone=undisturbed.get(name)))
        return {
            "kills": kills,
            "trained": trained[0],
            "SIGINT": interrupt(training, signal.SIGINT),
            "SIGTERM in a library": interrupt_in_a_library(made["encoding"]),
            "two trainings": meet(training),
            "lost rank": lose_a_rank(training),
            "read-only": {name: forbid_writing(made[name]) for name in READ_ONLY},
            "full disk": {name: fill_the_disk(made[name]) for name in FULL},
        }
