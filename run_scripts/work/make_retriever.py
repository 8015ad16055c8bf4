"""The chain of commands that makes a retriever, each in a process of its own."""

import logging
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import m3se.run_scripts.work.distill
import m3se.run_scripts.work.score_with_teacher
import m3se.run_scripts.work.train_teacher  # noqa: F401  (the forks that run the stages have them already)
from m3se.run_scripts import distill, score_with_teacher, train_teacher
from m3se.run_scripts.cli.stages import run_command, run_function
from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.retriever import gain, prepare, trials, verdict
from m3se.run_scripts.retriever.commands import flags, matching_options, student_options, teacher_options
from m3se.run_scripts.retriever.options import BM25, QUERIES, START, TRAIN, RetrieverArguments
from m3se.run_scripts.retriever.page import PAGE
from m3se.run_scripts.retriever.trials import Plan, Trial, make_plan
from m3se.run_scripts.work import search
from m3se.run_scripts.work.list_making import check_selection, is_by_score, score_filters
from m3se.trainers.backends.choice import choose_backend
from m3se.trainers.data.united import check_shares
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.run_folder import RECORD
from m3se.trainers.storage.atomic import refuse_unwritable, write_json
from m3se.trainers.teacher.ensembles import check_weights


logger = logging.getLogger(__name__)

PLAN_FILE = "plan.json"
HOUR = 3600.0
RESERVE = 0.25  # of the time, for all but scoring and training


def main(arguments: RetrieverArguments) -> None:
    """Run all stages, each in a process of its own."""
    started = time.perf_counter()
    check(arguments)
    say("1/7", "queries and candidates")
    run_function(prepare.prepare, arguments)
    if TRAIN in arguments.teacher:
        say("2/7", "the teacher, trained on judgments")
        run_command(train_teacher, teacher_options(arguments))
    say("3/7", "is there anything to gain?")
    score(arguments, "dev")
    run_function(gain.measure_gain, arguments)
    measured = arguments.read(gain.GAIN)
    print(measured["says"])
    if not measured["is_better"] and not arguments.anyway:
        print("Stopped before any student is trained; --anyway true goes on.")
        sys.exit(int(arguments.require_better))
    planned = plan(arguments, measured, time.perf_counter() - started)
    say("4/7", f"teacher scores of {planned.lists:,} lists")
    score(arguments, "train", planned.lists)
    say("5/7", "students")
    if arguments.layers is not None:
        match_first_layers(arguments, planned)
    trained = train_students(arguments, planned, started)
    for number in range(2, arguments.rounds + 1):
        best = best_trial(arguments, trained)
        if arguments.born_again:
            teacher = best if number == 2 else trained[-1]
            trained.append(train_born_again(arguments, planned, number, teacher))
        else:
            trained.append(train_round(arguments, planned, number, best))
    best = best_trial(arguments, trained)
    for trial in trained:
        logger.info("%s: nDCG@10 %.3f on dev queries", trial.title, trials.best_value(arguments, trial))
    say("6/7", "the published folder")
    run_function(publish, arguments, best, arguments.model)
    say("7/7", "verdict on held-out queries")
    score(arguments, "test")
    run_function(verdict.judge, arguments, trained, best)
    run_function(publish, arguments, best, arguments.model, True)
    run_function(search.prepare, str(arguments.model), arguments.data, arguments.cache_dir)
    finish(arguments, time.perf_counter() - started)


def check(arguments: RetrieverArguments) -> None:
    """Raise InputError, before any work, for options that fit nothing, missing models and an unwritable folder."""
    refuse_unwritable(arguments.folder)
    choose_backend(arguments.backend, arguments.dtype)
    check_selection(arguments)
    if arguments.candidate_shares:
        check_shares(("BM25", "the encoder"), arguments.candidate_shares)
    check_weights(arguments.teacher_weights, len(arguments.teacher))
    ModelInfo.read(encoder_path(arguments.encoder))
    arguments.share_of_layers()
    for name in arguments.teacher:
        if name not in (TRAIN, START, BM25) and not Path(name).is_file():
            ModelInfo.read(name)


def say(number: str, text: str) -> None:
    """Announce a stage."""
    logger.info("\n[%s] %s", number, text)


def score(
    arguments: RetrieverArguments, part: str, lists: int | None = None, **changes: str | list[str] | None
) -> None:
    """Score the lists of a part by the teachers, through the cache; `changes` are options of score_with_teacher.py."""
    options = {
        "teacher": arguments.teachers(part),
        "teacher_weights": list(map(str, arguments.teacher_weights)) or None,
        "data": str(arguments.lists(part)),
        "output": str(arguments.scored(part)),
        "max_queries": lists,
        "cache_dir": arguments.cache_dir,
        "backend": arguments.backend,
        "dtype": arguments.dtype,
    }
    if part not in ("dev", "test"):
        options["pseudo_positives"] = arguments.pseudo_positives
        if is_by_score(arguments):
            options |= {"negatives": arguments.negatives, "documents_per_query": arguments.documents_per_query}
            options |= score_filters(arguments).bounds()
    run_command(score_with_teacher, flags(**options | changes))


def plan(arguments: RetrieverArguments, measured: dict, spent: float) -> Plan:
    """Make the plan of the time that is left, and say what it will cost.

    The plan of an earlier run with the same options stands, so that this one goes on where that one ended. Where
    `hours` alone has changed, and there is time for more lists, the students of the earlier one are deleted.

    Args:
        arguments: the options.
        measured: what gain.json says.
        spent: seconds since the start.
    """
    options = dict(vars(arguments))
    for name, default in {"born_again": False, "layers": None}.items():
        if options[name] == default:
            del options[name]  # plans from before it was an option stand
    earlier = arguments.read(PLAN_FILE) if (arguments.folder / PLAN_FILE).is_file() else None
    if earlier is not None and earlier["options"] == options:
        return Plan(**earlier["plan"])
    queries = arguments.read(QUERIES)
    seconds = max(arguments.hours * HOUR * (1 - RESERVE) - spent, 0)
    planned, cost = make_plan(arguments, measured, queries, seconds)
    logger.info("%s", cost)
    # more --hours is the advice of this command itself; fewer must not cost a longer training
    has_other_hours = earlier is not None and earlier["options"] | {"hours": arguments.hours} == options
    if has_other_hours and planned.lists > earlier["plan"]["lists"]:
        logger.info("more queries than with the --hours of before: all students are trained anew")
        shutil.rmtree(arguments.folder / "students", ignore_errors=True)
    write_json(arguments.folder / PLAN_FILE, {"options": options, "plan": asdict(planned)})
    return planned


def match_first_layers(arguments: RetrieverArguments, planned: Plan) -> None:
    """Teach the encoder's first layers to embed as all of them do, and publish them as what students start from."""
    logger.info("\nthe first %d layers of the encoder, which learn to embed as all of them do", arguments.layers)
    run_command(distill, matching_options(arguments, planned))
    run_function(publish, arguments, trials.FIRST_LAYERS, arguments.first_layers)


def train_students(arguments: RetrieverArguments, planned: Plan, started: float) -> list[Trial]:
    """Train the students of the first round while the time lasts, and at least one."""
    trained: list[Trial] = []
    for name in planned.trials:
        trial = trials.find(name)
        is_done = (arguments.student(trial.name) / RECORD).is_file()
        if trained and not is_done and time.perf_counter() - started > arguments.hours * HOUR:
            logger.info("the time is over: %s is left out", trial.title)
            continue
        logger.info("\n%s", trial.title)
        run_command(distill, student_options(arguments, trial, planned))
        trained.append(trial)
    return trained


def train_round(arguments: RetrieverArguments, planned: Plan, number: int, best: Trial) -> Trial:
    """Train the best student once more, on lists of what it ranks high now.

    Args:
        arguments: the options.
        planned: how many lists, and how often it is measured.
        number: of the round, from 2.
        best: the trial of the best student so far.
    """
    trial = trials.later_round(number, best)
    logger.info("\n%s: %s, on what it ranks high now", trial.title, best.title)
    encoder = arguments.folder / "starts" / trial.name
    run_function(publish, arguments, best, encoder)
    run_function(prepare.prepare_round, arguments, trial.name, encoder)
    score(arguments, trial.name, planned.lists)
    changes = {"data": str(arguments.scored(trial.name)), "encoder": str(encoder), "pooling": None}
    run_command(distill, student_options(arguments, trial, planned, **changes))
    return trial


def train_born_again(arguments: RetrieverArguments, planned: Plan, number: int, teacher: Trial) -> Trial:
    """Train a new student of the start encoder on the first round's lists, as another student scores them.

    These are the born-again networks of Furlanello et al. (2018): no generation goes on from the weights of its
    teacher, from which it would have nothing to learn.

    Args:
        arguments: the options.
        planned: how many lists, and how often it is measured.
        number: of the round, from 2.
        teacher: the trial of the student that teaches.
    """
    trial = trials.born_again(number, teacher)
    logger.info("\n%s: a new one, taught by %s", trial.title, teacher.title)
    scorer = {"teacher": [str(arguments.student(teacher.name))], "teacher_weights": None}
    score(arguments, trial.name, planned.lists, data=str(arguments.lists("train")), **scorer)
    run_command(distill, student_options(arguments, trial, planned, data=str(arguments.scored(trial.name))))
    return trial


def best_trial(arguments: RetrieverArguments, trained: list[Trial]) -> Trial:
    """Return the trial of the student that is best on the dev queries; of equals the first."""
    return max(trained, key=lambda trial: trials.best_value(arguments, trial))


def publish(arguments: RetrieverArguments, student: Trial, folder: Path, judged: bool = False) -> None:
    """Write the published folder of a student, with the figures of the verdict if it is judged."""
    values = {"teacher": f"{student.teacher}, of the same start"} if student.teacher else {}
    if arguments.layers is not None and student != trials.FIRST_LAYERS:
        values["first_layers_of"] = arguments.base_model or Path(arguments.encoder).name
    files = {"table": arguments.folder / verdict.TABLE, "metrics": arguments.folder / verdict.METRICS}
    build_folder(
        arguments.student(student.name),
        folder,
        name=f"{Path(arguments.data).name}-retriever",
        license=arguments.license,
        language=arguments.language,
        base_model=arguments.base_model,
        **values,
        **{name: file for name, file in files.items() if judged and file.is_file()},
    )


def demo_options(arguments: RetrieverArguments) -> list[str]:
    """Return the options of demo.py that show the finished run."""
    trained = {TRAIN: str(arguments.folder / "teacher")}
    teachers = [trained.get(name, name) for name in arguments.teacher if not Path(name).is_file()]
    weights = arguments.teacher_weights if len(teachers) == len(arguments.teacher) else []
    return flags(
        model=str(arguments.model),
        start=str(arguments.start),
        teacher=teachers or None,
        teacher_weights=list(map(str, weights)) or None,
        run=str(arguments.folder),
        data=arguments.data,
        cache_dir=arguments.cache_dir,
    )


def finish(arguments: RetrieverArguments, seconds: float) -> None:
    """Print what to do with the model; end with status 1 if a better one was required and this one is not."""
    judged, data, cache = arguments.read(verdict.VERDICT), arguments.data, arguments.cache_dir
    student = arguments.student(judged["chosen"])
    print(f"Done in {seconds / 60:.1f} minutes: {arguments.folder / PAGE}. Search with the model:\n")
    print(f'  m3se search --model {arguments.model} --data {data} --cache_dir {cache} "your words"\n')
    print("compare it with its start on a page in the browser (extra demo-page):\n")
    print(f"  m3se demo {' '.join(demo_options(arguments))}\n")
    print("or push it to the Hub:\n")
    print(f"  m3se publish --model {student} --folder {arguments.model} --repo your-name/your-model")
    if arguments.require_better and not judged["is_better"]:
        sys.exit(1)
