"""Kill -9 every stage at many moments, run it again, and compare what it leaves with an undisturbed run.

    python -m tests.reliability.programs.kill_matrix --kills 30 --stages scoring training encoding indexing \\
        evaluating publishing reproducing

A moment is a change to a file (before the k-th that the run makes) or a time since its start, in turn; both are drawn
with --seed, so a moment of the first kind comes again. Prints a line for each stage and, with --verbose, each kill;
ends with status 1 when anything came out otherwise.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.hub_server import serve
from tests.reliability.forked import Run
from tests.reliability.stages import NAMES, Stage, make_world, stages


TRIES = 10  # for each kill that is wanted: a moment may be after the end


@dataclass
class Result:
    """What became of a stage: kills that hit it, and how each rerun ended when not as an undisturbed run."""

    stage: str
    files: int
    kills: list[str] = field(default_factory=list)
    missed: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "all as undisturbed" if not self.wrong else f"{len(self.wrong)} OTHERWISE"
        return f"{self.stage}: {len(self.kills)} kills, {self.missed} after the end, {self.files} files, {verdict}"


def undisturbed(stage: Stage) -> tuple[dict[str, str], dict]:
    """The artefacts of a run that is left alone, and how it went."""
    stage.fresh()
    finished = stage.start().finish()
    if finished["status"] != 0:
        raise RuntimeError(f"{stage.name} fails undisturbed: {finished['lines'][-10:]}")
    return stage.artefacts(), finished


def matrix(
    stage: Stage, kills: int, seed: int, verbose: bool = False, left_alone: tuple[dict, dict] | None = None
) -> Result:
    """Kill the stage `kills` times, each time from the start, and run it again after each. `left_alone` is what
    `undisturbed` says of it, when that is known."""
    expected, once = left_alone or undisturbed(stage)
    changes, lasted = once["changes"], once["lasted"]
    result = Result(stage.name, len(expected))
    draw = random.Random(f"{stage.name} {seed}")
    while len(result.kills) < kills and result.missed < TRIES * kills:
        stage.fresh()
        if len(result.kills) % 2 == 0:
            place = draw.randint(1, changes)
            moment, killed = f"before change {place} of {changes}", stage.start(moment=place)
        else:
            seconds = draw.uniform(0, lasted)
            moment, killed = f"after {seconds:.3f} of {lasted:.3f} s", stage.start()
            kill_after(killed, seconds)
        finished = killed.finish()
        if finished["status"] != -signal.SIGKILL:
            result.missed += 1
            lasted = finished["lasted"]  # the machine may have become faster
            continue
        result.kills.append(moment)
        if difference := rerun(stage, expected):
            result.wrong.append(f"{moment}: {difference}")
        if verbose:
            sys.stdout.write(f"  {stage.name} killed {moment}: {difference or 'as undisturbed'}\n")
    return result


def kill_after(run: Run, seconds: float) -> None:
    time.sleep(seconds)
    run.kill()  # at the latest it is a zombie, since nobody has waited for it


def rerun(stage: Stage, expected: dict[str, str]) -> str | None:
    """Run the stage again; what is not as expected then."""
    again = stage.start().finish()
    if again["status"] != 0:
        return f"status {again['status']}: {again['lines'][-3:]}"
    found = stage.artefacts()
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    left = sorted(path.name for path in stage.folder.iterdir() if path.name.endswith(".lock"))
    return f"differ: {', '.join(differing)}" if differing else f"left: {', '.join(left)}" if left else None


def prepare(root: Path, made: dict[str, Stage]) -> tuple[dict[str, str], dict]:
    """Train the student that later stages read; what `undisturbed` says of that."""
    make_world(root)
    trained = undisturbed(made["training"])
    shutil.copytree(made["training"].folder / "student", root / "trained")
    return trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="of each stage")
    parser.add_argument("--stages", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, serve() as hub:
        root = Path(folder)
        made = stages(root, hub)
        prepare(root, made)
        for name in arguments.stages:
            result = matrix(made[name], arguments.kills, arguments.seed, arguments.verbose)
            wrong += len(result.wrong)
            sys.stdout.write("\n".join([str(result), *result.wrong]) + "\n")
            sys.stdout.flush()
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
