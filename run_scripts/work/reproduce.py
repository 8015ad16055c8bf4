"""A study: its plan, its runs and its report."""

import logging
import sys
from pathlib import Path

import torch

from m3se.run_scripts.reproduce import ReproductionArguments
from m3se.run_scripts.reproduction import cost
from m3se.run_scripts.reproduction.data import split_collection
from m3se.run_scripts.reproduction.jobs import Job
from m3se.run_scripts.reproduction.plan import Planner
from m3se.run_scripts.reproduction.report import write_report
from m3se.run_scripts.reproduction.run import run_all, timed
from m3se.run_scripts.reproduction.study import Scale, Study, evaluation_name, read_scale, read_study
from m3se.run_scripts.reproduction.teaching import RoomReport
from m3se.trainers.errors import InputError
from m3se.trainers.storage.lock import exclusive


logger = logging.getLogger(__name__)


def main(arguments: ReproductionArguments) -> None:
    """Print the plan, run its jobs and write the reports."""
    scale = read_scale(arguments.scale, Path(arguments.recipes))
    if arguments.transfer and "rerank" not in scale.evaluations:
        raise InputError(f"--transfer: scale {scale.name} has no evaluation rerank, whose settings it would use")
    studies = []
    for name in arguments.study:
        studies.append(chosen_columns(chosen_rows(read_study(name, scale), arguments.only), arguments.evaluations))
    if arguments.cpu_runs < 1:
        raise InputError(f"--cpu_runs: expected at least 1, got {arguments.cpu_runs}")
    output = Path(arguments.output)
    planner = Planner(scale, prepare_data(arguments, scale, output), output, arguments.transfer)
    print(describe(plan(studies, planner, arguments.seeds), scale, output))
    if arguments.dry_run:
        return
    gpus = torch.cuda.device_count() if arguments.gpus is None else arguments.gpus
    room = RoomReport(studies, planner, arguments.seeds[0])

    def next_plan() -> list[Job]:
        """Make the plan anew, after a look at what the teacher has to teach."""
        room.log()
        return plan(studies, planner, arguments.seeds)

    with exclusive(output):
        failed = run_all(next_plan, output, gpus, arguments.gpus_per_run, arguments.cpu_runs)
        for study in studies:
            print(write_report(study, planner, arguments.seeds))
    if failed:
        sys.exit(f"{len(failed)} runs failed: {', '.join(failed)}")


def prepare_data(arguments: ReproductionArguments, scale: Scale, output: Path) -> str:
    """Return where the recipes' data is: as given, or split anew at a scale that holds training queries out."""
    if scale.held_out is None:
        return arguments.data or scale.data
    if arguments.data is None:
        raise InputError(f"--data: scale {scale.name} needs a BEIR folder")
    source = Path(arguments.data)
    return str(split_collection(source, output / "data" / source.name, scale.held_out))


def chosen_rows(study: Study, only: list[str]) -> Study:
    """Select the rows that `only` names, and the baseline; raises InputError for a row that it has not."""
    if not only:
        return study
    for name in only:
        if name not in study.rows:
            raise InputError(f"--only: {study.name} has no row {name!r}; it has {', '.join(study.rows)}")
    study.rows = {name: row for name, row in study.rows.items() if name in (*only, study.baseline)}
    return study


def chosen_columns(study: Study, evaluations: list[str]) -> Study:
    """Select the columns of some evaluations, and the predicted one; raises InputError for one that it has not."""
    if not evaluations:
        return study
    all_names = study.evaluations()
    for name in evaluations:
        if name not in all_names:
            raise InputError(
                f"--evaluations: {study.name} is not measured by {name!r} at this scale, but by {', '.join(all_names)}"
            )
    names = {*evaluations, evaluation_name(study.predicted_column())}
    study.columns = {name: paper for name, paper in study.columns.items() if evaluation_name(name) in names}
    return study


def plan(studies: list[Study], planner: Planner, seeds: list[int]) -> list[Job]:
    """List all jobs, each after what it needs: every row of every study with the first seed, then with the next."""
    jobs: dict[str, Job] = {}
    for seed in seeds:
        for study in studies:
            later = []
            for row in study.rows.values():  # the first numbers of all rows before the second ones of any
                measured = planner.measured(study, row, seed, seeds[0])
                add(jobs, *measured.first())
                later += measured.jobs()
            add(jobs, *later)
            if diagnosis := planner.diagnosis(study, seed, seeds[0]):
                add(jobs, diagnosis)
    return list(jobs.values())


def add(jobs: dict[str, Job], *wanted: Job) -> None:
    """Add jobs after all that they need."""
    for job in wanted:
        add(jobs, *job.waits_for, *job.needs)
        jobs.setdefault(job.name, job)


def describe(jobs: list[Job], scale: Scale, output: Path) -> str:
    """Describe the plan: each job, whether it is there, and how long it will take."""
    records = timed(output)
    measured = [job for job in jobs if job.name in records]
    ratios = {script: cost.ratio(measured, records, scale, script) for script in {job.script for job in jobs}}
    lines, to_go = [], 0.0
    for job in jobs:
        if job.done:
            lines.append(f"  cached      {job.name}")
            continue
        seconds = ratios[job.script] * cost.seconds(job, scale)
        to_go += seconds
        kind = "after trials" if job.waits_for else duration(seconds)
        lines.append(f"  {kind:<11} {job.name}")
    basis = f"{len(measured)} runs timed in {output}" if measured else f"{scale.flops:.1e} FLOP/s: {scale.flops_basis}"
    done = sum(job.done for job in jobs)
    return "\n".join([f"{len(jobs)} runs, {done} of them done, {duration(to_go)} to go ({basis})", *lines])


def duration(seconds: float) -> str:
    """Write a time in hours, or below an hour and a half in minutes."""
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
