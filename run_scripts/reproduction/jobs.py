"""Jobs of a study: one process each, a script with its options, and the jobs whose results it reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from m3se.run_scripts.publishing.card_values import learning_curve, read_json
from m3se.trainers.run_folder import RECORD


LAST_FILE = {  # what a script writes last
    "train_teacher.py": RECORD,
    "distill.py": RECORD,
    "score_with_teacher.py": "calibration.json",
    "evaluate.py": "table.md",
    "diagnose.py": "diagnostics.md",
    "publish.py": "README.md",
}


@dataclass(frozen=True)
class Job:
    """One process: a script, its options, and the jobs whose results it reads.

    `waits_for` must be done before it is even known whether the job is wanted.
    """

    name: str
    script: str
    options: dict
    folder: Path
    needs: tuple["Job", ...] = ()
    waits_for: tuple["Job", ...] = ()

    @property
    def done(self) -> bool:
        """Decide whether the script's last file is there, in the folder of every fold where there are several."""
        return all((folder / LAST_FILE[self.script]).is_file() for folder in self.folders())

    @property
    def lists(self) -> "Job | None":
        """Return the job that scored the lists which this one reads, if it reads any."""
        return next((need for need in self.needs if need.script == "score_with_teacher.py"), None)

    def folders(self) -> list[Path]:
        """List the folders that the script fills: its own, or one for each fold of a teacher."""
        folds = self.options.get("folds", 1)
        return [self.folder] if folds == 1 else [self.folder / f"fold-{fold}" for fold in range(1, folds + 1)]

    @property
    def ready(self) -> bool:
        """Decide whether the job can start: not done, and all that it depends on is."""
        return not self.done and all_done((*self.needs, *self.waits_for))


def all_done(jobs: Iterable[Job]) -> bool:
    """Decide whether every job is done."""
    return all(job.done for job in jobs)


def read_dev(training: Job, measure: str) -> float:
    """Read a measure on dev at the end of a training; of several folds the mean."""
    values = []
    for folder in training.folders():
        curve = learning_curve(read_json(folder / RECORD)["log_history"])
        values.append(curve[-1][f"dev {measure}"])
    return sum(values) / len(values)
