"""What a teacher has to teach: its lead over labels on held-out queries, and the scores of the training lists."""

import logging

from m3se.run_scripts.publishing.card_values import read_json
from m3se.run_scripts.reproduction.jobs import Job, read_dev
from m3se.run_scripts.reproduction.plan import Planner
from m3se.run_scripts.reproduction.rows import MEAN, TEACHER, Row
from m3se.run_scripts.reproduction.study import Study
from m3se.trainers.evaluation.markdown import NONE, table


logger = logging.getLogger(__name__)

MEASURE = "MRR@10"
DEV_OPTIONS = ("dev_queries", "dev_depth")  # by which teacher and student are measured on the same lists
SHOWN = ("queries", "documents_per_query", "top_is_positive")


def find_room(study: Study, planner: Planner, seed: int) -> dict | None:
    """Compare the teacher with the student of labels on dev: the study's row `labels`, or else its baseline.

    Returns:
        MRR@10 of both, their difference `room`, and the `wanted` one; None where the scale wants none, the study has
        no such rows, or one of them is not trained.
    """
    row = study.rows.get(study.labels or study.baseline)
    if planner.scale.room is None or row is None or row.model in (TEACHER, MEAN):
        return None
    teacher, labels = planner.teacher({}), planner.training(row, seed, seed)
    if labels.waits_for or not (teacher.done and labels.done) or not same_dev(teacher, labels):
        return None
    values = {"teacher": read_dev(teacher, MEASURE), "labels": read_dev(labels, MEASURE)}
    queries = teacher.options["dev_queries"]
    return values | {"room": values["teacher"] - values["labels"], "wanted": planner.scale.room, "queries": queries}


def same_dev(first: Job, second: Job) -> bool:
    """Decide whether two trainings are measured on the same dev lists."""
    return all(first.options.get(name) == second.options.get(name) for name in DEV_OPTIONS)


def describe_room(room: dict) -> str:
    """Say how much the teacher is above labels on dev, and whether that is what the scale wants."""
    verdict = "as wanted" if room["room"] >= room["wanted"] else "too little to compare losses by"
    return (
        f"Room: on {room['queries']} dev queries the teacher has {MEASURE} {room['teacher']:.4f}, the student of "
        f"labels {room['labels']:.4f}; the difference is {room['room']:+.4f}, where {room['wanted']:+.2f} or more is "
        f"wanted: {verdict}."
    )


class RoomReport:
    """The room of each study, logged once, as soon as teacher and labels have been trained."""

    def __init__(self, studies: list[Study], planner: Planner, seed: int):
        self.waiting = list(studies)
        self.planner = planner
        self.seed = seed

    def log(self) -> None:
        """Log the room of the studies for which it has become known, as a warning where it is too little."""
        for study in list(self.waiting):
            room = find_room(study, self.planner, self.seed)
            if room is not None:
                self.waiting.remove(study)
                level = logging.INFO if room["room"] >= room["wanted"] else logging.WARNING
                logger.log(level, "%s: %s", study.name, describe_room(room))


def describe_lists(study: Study, planner: Planner, seed: int) -> dict[str, dict]:
    """Collect, row by row, what the teacher's scores of the lists are that the student learned from."""
    described = {}
    for name, row in study.rows.items():
        job = learned_from(row, planner, seed)
        if job is not None and job.done:
            described[name] = {"lists": job.name} | sharpness(read_json(job.folder / "calibration.json"))
    return described


def learned_from(row: Row, planner: Planner, seed: int) -> Job | None:
    """Return the job that scored a student's lists; None for a teacher, texts alone and published scores."""
    if row.model in (TEACHER, MEAN):
        return None
    lists = planner.training(row, seed, seed).lists
    return lists if lists is not None and lists.needs else None


def sharpness(calibration: dict) -> dict:
    """Take from a calibration how large the lists are, and how much the teacher's softmax says beyond the label."""
    values = {name: calibration[name] for name in SHOWN}
    targets = calibration["targets"]
    return values | {name: targets[name] for name in ("top_probability", "effective_documents")}


def list_table(results: dict) -> str:
    """Write a line for each kind of lists with the rows that learned from it; empty where none was scored here."""
    rows_by_lists: dict[str, list[str]] = {}
    values_by_lists = {}
    for name, entry in results["lists"].items():
        rows_by_lists.setdefault(entry["lists"], []).append(name)
        values_by_lists[entry["lists"]] = entry
    lines = []
    for lists, names in rows_by_lists.items():
        entry = values_by_lists[lists]
        top = NONE if entry["top_is_positive"] is None else f"{entry['top_is_positive']:.1%}"
        size = [f"{entry['queries']:,}", f"{entry['documents_per_query']:.1f}"]
        sharp = [f"{entry['top_probability']:.3f}", f"{entry['effective_documents']:.2f}"]
        lines.append([", ".join(names), *size, top, *sharp])
    header = [
        "lists of",
        "lists",
        "documents",
        "teacher's best is labelled",
        "its share of the softmax",
        "spread over",
    ]
    text = "The teacher's softmax over a list at temperature 1, spread over so many documents (exp of its entropy)."
    return f"## The teacher's scores of the training lists\n\n{text}\n\n{table(header, lines)}" if lines else ""
