"""The plan of a study: its jobs, what each needs, and what is there already.

A job's folder carries a hash of everything it depends on. The same teacher, lists or student in two studies is one
job; a job whose last file is in its folder is done; a plan made anew after a kill continues where the last one ended.
"""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path

from m3se.run_scripts.cli.recipe import read_recipe
from m3se.run_scripts.reproduction.data import data_key
from m3se.run_scripts.reproduction.jobs import Job, all_done, read_dev
from m3se.run_scripts.reproduction.rows import BM25, MEAN, TEACHER, Row, merged
from m3se.run_scripts.reproduction.study import Recipe, Scale, Study


OUTPUT_OPTION = {"train_teacher.py": "output_dir", "distill.py": "output_dir", "publish.py": "folder"}
OUTPUT = "output"  # the others' option
TRANSFER = "transfer"  # the evaluation on data that nothing was trained on
BM25_TEACHER = "bm25"  # what score_with_teacher.py calls it
MODEL = "model"  # the name of the one model in an evaluation's folder


@dataclass
class Measured:
    """The jobs behind one row and seed of a table: of a mean the trainings of its members."""

    trainings: tuple[Job, ...]
    evaluations: dict[str, Job] = field(default_factory=dict)
    system: str = MODEL  # the evaluations' folder with the row's values

    def jobs(self) -> list[Job]:
        """List the trainings, then the evaluations."""
        return [*self.trainings, *self.evaluations.values()]

    def first(self) -> list[Job]:
        """List the jobs up to the first evaluation."""
        return self.jobs()[: len(self.trainings) + 1]


class Planner:
    """Makes the jobs of studies at one scale, with `data` read and everything written below `output`."""

    def __init__(self, scale: Scale, data: str, output: Path, transfer: str | None = None):
        self.scale = scale
        self.data = data
        self.output = output
        self.transfer = transfer
        self.data_key = data_key(data)
        self.recipes: dict[str, dict] = {}  # by name, as their files have them

    def job(
        self,
        label: str,
        script: str,
        options: dict,
        needs: tuple = (),
        waits_for: tuple = (),
        keyed: dict | None = None,
    ) -> Job:
        """Make a job whose name carries a hash of all that it depends on.

        Args:
            label: The beginning of its name.
            script: The file in run_scripts.
            options: With the recipes' own paths, so that the hash does not depend on where things lie.
            needs: Jobs whose results it reads.
            waits_for: Jobs that must be done before it is known whether this one is wanted.
            keyed: Goes into the hash beside the options.
        """
        asked = {key: value for key, value in options.items() if key not in ("output", "output_dir", "cache_dir")}
        asked |= keyed or {}
        content = [self.scale.name, self.data_key, script, asked, [job.name for job in needs]]
        key = blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()
        folder = self.output / "runs" / f"{label}-{key}"
        located = dict(zip(options, map(self.with_data, options.values()), strict=True))
        located |= {OUTPUT_OPTION.get(script, OUTPUT): str(folder), "cache_dir": str(self.output / "cache")}
        return Job(folder.name, script, located, folder, needs, waits_for)

    def with_data(self, value):
        """Replace the recipes' data folder by the given one in a value, or in each of a list."""
        if isinstance(value, list):
            return list(map(self.with_data, value))
        if isinstance(value, str) and (value + "/").startswith(self.scale.data + "/"):
            return self.data + value.removeprefix(self.scale.data)
        return value

    def options(self, recipe: Recipe, *changes: dict) -> dict:
        """Read a recipe's options and merge into them what the scale, then each of `changes`, says otherwise."""
        if recipe.recipe not in self.recipes:
            self.recipes[recipe.recipe] = read_recipe(self.scale.recipes / recipe.recipe)
        options = dict(self.recipes[recipe.recipe])
        for change in (recipe.set, *changes):
            options = merged(options, change)
        return options

    def teacher(self, changes: dict) -> Job:
        """Make the job that trains the teacher."""
        options = self.options(self.scale.teacher, changes)
        return self.job(TEACHER, "train_teacher.py", options)

    def lists(self, changes: dict, scorers: tuple[Job, ...], mean_of: dict[str, float]) -> Job:
        """Make the job that gives training lists their scores: a model's, a mean's, or those that were published.

        Args:
            changes: How the lists differ from those of the scale.
            scorers: Train the models that score.
            mean_of: Weights of the models, and of BM25 where it is one of them; empty for a single model.
        """
        options = self.options(self.scale.lists, changes)
        if "teacher" not in options:  # published scores
            return self.job("lists", "score_with_teacher.py", options)
        folders = [str(scorer.folder) for scorer in scorers]
        if mean_of:
            options["teacher_weights"] = model_weights(mean_of)
        if BM25 in mean_of:
            options["teacher_weights"].append(mean_of[BM25])
            folders.append(BM25_TEACHER)
        job = self.job("lists", "score_with_teacher.py", options, scorers)
        return self.with_path(job, teacher=folders if mean_of else scorers[0].folder)

    def with_path(self, job: Job, **paths: Path | list[str]) -> Job:
        """Add options that hold other jobs' folders, which the job's hash has by their names; return the job."""
        for option, path in paths.items():
            job.options[option] = path if isinstance(path, list) else str(path)
        return job

    def student(
        self,
        student: str,
        row: Row,
        settings: dict,
        seed: int,
        waits_for: tuple = (),
        scorers: tuple[Job, ...] = (),
        start: Job | None = None,
    ) -> Job:
        """Make the job that trains a student for a row: on lists, or on the texts where its data is the collection.

        Args:
            student: A key of the scale's students.
            row: Which says how it differs from the recipe, and its lists from theirs.
            settings: Those of a trial.
            seed: Decides the order of the lists, and dropout.
            waits_for: Trials that must be done before the settings are known.
            scorers: Train the models that score its lists; none: the teacher does.
            start: Trains the student that it goes on from; None: it starts from the recipe's encoder.
        """
        recipe = self.scale.students[student]
        options = self.options(recipe, settings, row.set)
        teacher = self.teacher(row.teacher)
        paths: dict[str, Path | list[str]] = {}
        needs: tuple[Job, ...] = ()
        if options["data"] != self.scale.data:
            mean_of = row.scored_by.mean_of if row.scored_by else {}
            needs += (self.lists(merged(recipe.lists, row.lists), scorers or (teacher,), mean_of),)
            paths["data"] = needs[0].folder
        if start is not None:
            needs += (self.encoder(start),)
            paths["encoder"] = needs[-1].folder
        if options.get("refresh_teacher") == TEACHER:
            paths["refresh_teacher"] = [str(teacher.folder)]
        return self.with_path(self.job(student, "distill.py", options | {"seed": seed}, needs, waits_for), **paths)

    def encoder(self, training: Job) -> Job:
        """Make the job that publishes a student as an encoder, from which another can start."""
        label = f"encoder-{training.name.rsplit('-', 1)[0]}"
        return self.with_path(self.job(label, "publish.py", {}, (training,)), model=training.folder)

    def trials(self, student: str, seed: int) -> list[tuple[dict, Job]]:
        """List (settings, training) of each trial that chooses for a student; none at a scale without a selection."""
        selection = self.scale.selection
        if selection is None:
            return []
        tried, trials = selection.tried(student), []
        plain = Row(tried, tried, tried, set=selection.set)
        for settings in selection.settings(tried):
            trials.append((settings, self.student(tried, plain, settings, seed)))
        return trials

    def chosen(self, student: str, seed: int) -> tuple[dict, tuple[Job, ...]]:
        """Return the settings of the best trial; while trials are missing, those of the first and what to wait for."""
        trials = self.trials(student, seed)
        if not trials:
            return {}, ()
        settings, jobs = zip(*trials, strict=True)
        if not all_done(jobs):
            return settings[0], jobs
        values = list(map(self.dev_value, jobs))
        return settings[values.index(max(values))], ()

    def dev_value(self, training: Job) -> float:
        """Read the selection's measure on dev at the end of a training."""
        return read_dev(training, self.scale.selection.measure)

    def training(self, row: Row, seed: int, first_seed: int) -> Job:
        """Make the job that trains a row's model with the settings chosen by the first seed."""
        if row.model == TEACHER:
            return self.teacher(row.set)
        settings, waits_for = self.chosen(row.model, first_seed)
        scorers = self.trainings(row.scored_by, seed, first_seed) if row.scored_by else ()
        start = self.training(row.starts_from, seed, first_seed) if row.starts_from else None
        for training in filter(None, (*scorers, start)):
            waits_for += training.waits_for
        return self.student(row.model, row, settings, seed, waits_for, scorers, start)

    def trainings(self, row: Row, seed: int, first_seed: int) -> tuple[Job, ...]:
        """Make the jobs that train the models of a row: its own, or those that it is the mean of."""
        return tuple(self.training(member, seed, first_seed) for member in row.members or [row])

    def evaluation(self, name: str, trainings: tuple[Job, ...], mean_of: dict[str, float]) -> Job:
        """Make the job that measures a model, or the mean of several, in the scale's evaluation of that name."""
        if name == TRANSFER:
            options = self.scale.evaluations["rerank"] | {"split": "test", "data": self.transfer}
        else:
            options = {"data": self.scale.data} | self.scale.evaluations[name]
        if mean_of:
            names = [str(number) for number in range(1, len(trainings) + 1)]
            options |= {"model": [], "name": names, "mean_weights": [mean_of.get(BM25, 0), *model_weights(mean_of)]}
            label = f"{name}-{MEAN}"
        else:
            options |= {"model": [], "name": [MODEL]}
            label = f"{name}-{trainings[0].name.rsplit('-', 1)[0]}"
        waits_for = tuple(chain.from_iterable(training.waits_for for training in trainings))
        job = self.job(label, "evaluate.py", options, trainings, waits_for)
        return self.with_path(job, model=[str(training.folder) for training in trainings])

    def measured(self, study: Study, row: Row, seed: int, first_seed: int) -> Measured:
        """Make the jobs behind one row and seed."""
        measured = Measured(self.trainings(row, seed, first_seed), system=MEAN if row.mean_of else MODEL)
        for name in self.evaluations(study):
            searches = self.scale.evaluations.get(name, {}).get("retrieve")
            if not (searches and row.model in (TEACHER, MEAN)):  # nothing of theirs finds a document in a collection
                measured.evaluations[name] = self.evaluation(name, measured.trainings, row.mean_of)
        return measured

    def evaluations(self, study: Study) -> list[str]:
        """List the evaluations of a study, with the one on other data if there is any."""
        return [*study.evaluations(), TRANSFER] if self.transfer else study.evaluations()

    def diagnosis(self, study: Study, seed: int, first_seed: int) -> Job | None:
        """Make the job that draws the figures of one seed's models; None for a study without."""
        asked = study.diagnose
        if not asked:
            return None
        options = {"data": self.scale.data, "model": [], "split": self.scale.evaluations["rerank"]["split"]}
        options |= self.scale.diagnosis | asked.get("set", {})
        names: dict[str, list[str]] = {"model": [], "stage": [], "size": []}
        paths: dict[str, list[str]] = {}
        needs: dict[str, Job] = {}
        waits_for: tuple[Job, ...] = ()
        for kind in names:
            for name, row_name in asked.get(kind, []):
                for row in study.rows.values():
                    if row_name not in (row.name, row.family):
                        continue
                    job = self.training(row, seed, first_seed)
                    if job.name not in needs:
                        needs[job.name] = job
                        waits_for += job.waits_for
                    names[kind].append(name)
                    paths.setdefault(kind, []).append(f"{name}={job.folder}")
        label, jobs = f"diagnose-{study.name.replace('/', '-')}", tuple(needs.values())
        job = self.job(label, "diagnose.py", options, jobs, waits_for, keyed={"names": names})
        return self.with_path(job, **paths)


def model_weights(mean_of: dict[str, float]) -> list[float]:
    """Return the weights of a mean's models, in their order, without that of BM25."""
    return [weight for member, weight in mean_of.items() if member != BM25]
