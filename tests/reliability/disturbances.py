"""The stages, disturbed in a few ways: in short what `tests.reliability.programs.kill_matrix` does for long."""

import ctypes
import hashlib
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path

from m3se.run_scripts import encode
from tests.hub_server import serve
from tests.reliability.forked import Run
from tests.reliability.programs.kill_matrix import matrix, prepare
from tests.reliability.stages import Stage, stages


KILLS = {"training": 2, "encoding": 1, "evaluating": 1, "publishing": 2}
READ_ONLY = ("training", "encoding", "evaluating", "publishing")
FULL = {"training": 3_000, "encoding": 150, "publishing": 3_000}  # bytes of the largest file


def wait_for_checkpoint(stage: Stage, run: Run) -> None:
    run.wait_for(lambda: bool(list(stage.folder.glob("student/checkpoint-*/SHA256SUMS"))))


def interrupt(stage: Stage, number: signal.Signals) -> dict:
    """Send a signal to a training that has a checkpoint, then train on."""
    stage.fresh()
    first = stage.start()
    wait_for_checkpoint(stage, first)
    first.signal(number)
    return {"first": first.finish(), "second": stage.start().finish(), "artefacts": stage.artefacts()}


def hang() -> None:
    """Make the encoder wait in a library, where Python's signal handlers do not run."""

    def never(*_):
        sys.stderr.write("waiting\n")
        sys.stderr.flush()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

    encode.load_embedder = never


def interrupt_in_a_library(stage: Stage) -> dict:
    stage.fresh()
    run = Run(stage.script, stage.flags, stage.folder.parent, before=hang)
    next(line for line in run.reader if "waiting" in line)
    run.signal(signal.SIGTERM)
    return run.finish()


def meet(stage: Stage) -> dict:
    """A second training in the folder of a first one, which is then killed; then a third."""
    stage.fresh()
    first = stage.start()
    wait_for_checkpoint(stage, first)
    first.signal(signal.SIGSTOP)  # it holds the folder, but is not done before the second has tried
    second = stage.start().finish()
    first.kill()
    first.finish()
    third = stage.start().finish()
    left = [path.name for path in stage.folder.glob(".*.lock")]
    return {"pid": first.pid, "second": second, "third": third, "artefacts": stage.artefacts(), "left": left}


def lose_a_rank(stage: Stage) -> dict:
    """Two processes of one launch; the second is killed while they train."""
    stage.fresh()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    flags = stage.flags | {"max_steps": 5_000, "eval_strategy": "no", "ddp_backend": "gloo", "use_cpu": True}
    ranks = [
        Run(stage.script, flags, stage.folder.parent, **launch, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(2)
    ]
    wait_for_checkpoint(stage, ranks[0])
    ranks[1].kill()
    return [ranks[0].finish(), ranks[1].finish()][0]


def fill_the_disk(stage: Stage) -> dict:
    """No file may become larger than so many bytes; then it may."""
    stage.fresh()
    first = stage.start(largest_file=FULL[stage.name]).finish()
    return {"first": first, "artefacts": stage.artefacts(), "second": stage.start().finish()}


def forbid_writing(stage: Stage) -> dict:
    """The stage's folder may be read only; what is prepared goes elsewhere."""
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
    """What happened, by disturbance."""
    with serve() as hub:
        made = stages(folder, hub)
        training, trained = made["training"], prepare(folder, made)
        known = {"training": trained}
        return {
            "kills": {
                name: asdict(matrix(made[name], kills, 0, left_alone=known.get(name))) for name, kills in KILLS.items()
            },
            "trained": trained[0],
            "SIGINT": interrupt(training, signal.SIGINT),
            "SIGTERM in a library": interrupt_in_a_library(made["encoding"]),
            "two trainings": meet(training),
            "lost rank": lose_a_rank(training),
            "read-only": {name: forbid_writing(made[name]) for name in READ_ONLY},
            "full disk": {name: fill_the_disk(made[name]) for name in FULL},
        }
