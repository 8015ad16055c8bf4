"""From a study to jobs: which scripts run with which options, what each needs, and what is there already.

A job's folder carries a hash of everything it depends on. The same teacher, lists or student in two studies is one
job; a job whose last file is in its folder is done; a plan made anew after a kill continues where the last one ended.
"""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from m3se.run_scripts.cli.recipe import read_recipe
from m3se.run_scripts.publishing.card_values import learning_curve, read_json
from m3se.run_scripts.reproduction.data import data_key
from m3se.run_scripts.reproduction.study import TEACHER, Recipe, Row, Scale, Study, merged
from m3se.trainers.run_folder import RECORD


LAST_FILE = {  # what a script writes last
    "train_teacher.py": RECORD,
    "distill.py": RECORD,
    "score_with_teacher.py": "calibration.json",
    "evaluate.py": "table.md",
    "diagnose.py": "diagnostics.md",
}
OUTPUT_OPTION = {"train_teacher.py": "output_dir", "distill.py": "output_dir"}  # the others': output
TRANSFER = "transfer"  # the evaluation on data that nothing was trained on
MODEL = "model"  # the name of the one model in an evaluation's folder


@dataclass(frozen=True)
class Job:
    """One process: a script, its options, and the jobs whose results it reads. `waits_for` must be done before it is
    even known whether the job is wanted."""

    name: str
    script: str
    options: dict
    folder: Path
    needs: tuple["Job", ...] = ()
    waits_for: tuple["Job", ...] = ()

    @property
    def done(self) -> bool:
        return (self.folder / LAST_FILE[self.script]).is_file()

    @property
    def ready(self) -> bool:
        return not self.done and all(job.done for job in (*self.needs, *self.waits_for))


@dataclass
class Measured:
    """The jobs behind one row and seed of a table."""

    training: Job
    evaluations: dict[str, Job] = field(default_factory=dict)

    def jobs(self) -> list[Job]:
        return [self.training, *self.evaluations.values()]


class Planner:
    """Makes the jobs of studies at one scale, with `data` read and everything written below `output`."""

    def __init__(self, scale: Scale, data: str, output: Path, transfer: str | None = None):
        self.scale = scale
        self.data = data
        self.output = output
        self.transfer = transfer
        self.data_key = data_key(data)

    def job(self, label: str, script: str, options: dict, needs: tuple = (), waits_for: tuple = ()) -> Job:
        """`options` still have the recipes' own paths, so that the key does not depend on where things lie."""
        asked = {key: value for key, value in options.items() if key not in ("output", "output_dir", "cache_dir")}
        content = [self.scale.name, self.data_key, script, asked, [job.name for job in needs]]
        key = blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()
        folder = self.output / "runs" / f"{label}-{key}"
        located = {name: self.located(value) for name, value in options.items()}
        located |= {OUTPUT_OPTION.get(script, "output"): str(folder), "cache_dir": str(self.output / "cache")}
        return Job(folder.name, script, located, folder, needs, waits_for)

    def located(self, value):
        """A recipe's value with its data folder replaced by the one that was given."""
        if isinstance(value, list):
            return [self.located(one) for one in value]
        if isinstance(value, str) and (value + "/").startswith(self.scale.data + "/"):
            return self.data + value.removeprefix(self.scale.data)
        return value

    def options(self, recipe: Recipe, *changes: dict) -> dict:
        """A recipe's options with what the scale, then each of `changes`, says otherwise."""
        options = read_recipe(self.scale.recipes / recipe.recipe)
        for change in (recipe.set, *changes):
            options = merged(options, change)
        return options

    def teacher(self, changes: dict) -> Job:
        options = self.options(self.scale.teacher, changes)
        return self.job(TEACHER, "train_teacher.py", options)

    def lists(self, changes: dict) -> Job:
        options = self.options(self.scale.lists, changes)
        if "teacher" not in options:  # published scores
            return self.job("lists", "score_with_teacher.py", options)
        teacher = self.teacher({})
        return self.with_path(self.job("lists", "score_with_teacher.py", options, (teacher,)), teacher=teacher.folder)

    def with_path(self, job: Job, **paths: Path | list[str]) -> Job:
        """The job with options that name other jobs' folders, which its key knows by name."""
        job.options.update({key: path if isinstance(path, list) else str(path) for key, path in paths.items()})
        return job

    def student(self, student: str, row: Row, settings: dict, seed: int, waits_for: tuple = ()) -> Job:
        known = self.scale.students[student]
        options = self.options(known, settings, row.set)
        lists = self.lists(merged(known.lists, row.lists))
        job = self.job(student, "distill.py", options | {"seed": seed}, (lists,), waits_for)
        return self.with_path(job, data=lists.folder)

    def trials(self, student: str, seed: int) -> list[tuple[dict, Job]]:
        """(settings, training) of each trial of a student's selection; none at a scale without a selection."""
        if self.scale.selection is None:
            return []
        plain = Row(student, student, student)
        return [
            (settings, self.student(student, plain, settings, seed)) for settings in self.scale.selection.of(student)
        ]

    def chosen(self, student: str, seed: int) -> tuple[dict, tuple[Job, ...]]:
        """The settings of the best trial; while some are missing those of the first, and the trials to wait for."""
        trials = self.trials(student, seed)
        if not trials:
            return {}, ()
        jobs = tuple(job for _, job in trials)
        if not all(job.done for job in jobs):
            return trials[0][0], jobs
        values = [self.dev_value(job) for job in jobs]
        return trials[values.index(max(values))][0], ()

    def dev_value(self, training: Job) -> float:
        """The selection's measure on dev at the end of a training."""
        curve = learning_curve(read_json(training.folder / RECORD)["log_history"])
        return curve[-1][f"dev {self.scale.selection.measure}"]

    def training(self, row: Row, seed: int, first_seed: int) -> Job:
        if row.model == TEACHER:
            return self.teacher(row.set)
        settings, waits_for = self.chosen(row.model, first_seed)
        return self.student(row.model, row, settings, seed, waits_for)

    def evaluation(self, name: str, training: Job) -> Job:
        """One model measured; what its recipe says of the data holds for all models."""
        if name == TRANSFER:
            options = self.scale.evaluations["rerank"] | {"split": "test", "data": self.transfer}
        else:
            options = {"data": self.scale.data} | self.scale.evaluations[name]
        options |= {"model": [], "name": [MODEL]}
        label = f"{name}-{training.name.rsplit('-', 1)[0]}"
        job = self.job(label, "evaluate.py", options, (training,), training.waits_for)
        return self.with_path(job, model=[str(training.folder)])

    def measured(self, study: Study, row: Row, seed: int, first_seed: int) -> Measured:
        training = self.training(row, seed, first_seed)
        names = [*study.evaluations(), *([TRANSFER] if self.transfer else [])]
        if row.model == TEACHER:  # a cross-encoder cannot search a collection
            names = [name for name in names if not self.scale.evaluations.get(name, {}).get("retrieve")]
        return Measured(training, {name: self.evaluation(name, training) for name in names})

    def diagnosis(self, study: Study, seed: int, first_seed: int) -> Job | None:
        """The figures of one seed's models."""
        asked = study.diagnose
        if not asked:
            return None
        options = {"data": self.scale.data, "model": [], "split": self.scale.evaluations["rerank"]["split"]}
        options |= self.scale.diagnosis | asked.get("set", {})
        paths: dict[str, list[str]] = {}
        needs: dict[str, Job] = {}
        for kind in ("model", "stage", "size"):
            found = [
                (name, row)
                for name, of in asked.get(kind, [])
                for row in study.rows.values()
                if of in (row.name, row.family)
            ]
            jobs = [self.training(row, seed, first_seed) for _, row in found]
            needs |= {job.name: job for job in jobs}
            paths[kind] = [f"{name}={job.folder}" for (name, _), job in zip(found, jobs, strict=True)]
        options["names"] = {kind: [pair.split("=")[0] for pair in found] for kind, found in paths.items()}
        waits_for = tuple(job for need in needs.values() for job in need.waits_for)
        job = self.job(f"diagnose-{study.name}", "diagnose.py", options, tuple(needs.values()), waits_for)
        job.options.pop("names")
        return self.with_path(job, **{kind: found for kind, found in paths.items() if found})
