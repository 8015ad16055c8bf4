"""The students that are tried, in this order while the time lasts; held-out queries choose among them."""

import json
from dataclasses import dataclass, field

from m3se.run_scripts.retriever.measure import MEASURE
from m3se.run_scripts.retriever.options import RetrieverArguments


RATE = 5e-5
BACKWARD = 3.0  # forward and backward pass, in forward passes


@dataclass(frozen=True)
class Trial:
    """A student to train.

    Attributes:
        name: of its folder.
        title: of its row in tables.
        options: of distill.py.
        needs_labels: it learns from judgments alone.
    """

    name: str
    title: str
    options: dict = field(default_factory=dict)
    needs_labels: bool = False


SHARED = {"learning_rate": RATE, "in_batch_negatives": True}
DISTILLATION = SHARED | {"loss": "softmax_distillation", "loss_args": {"teacher_temperature": "auto"}}
TRIALS = (
    Trial("mixed", "student, teacher and labels", DISTILLATION | {"one_hot_weight": 0.5}, needs_labels=True),
    Trial("labels", "student, labels only", SHARED | {"loss": "softmax_ce"}, needs_labels=True),
    Trial("distilled", "student, teacher only", DISTILLATION),
    Trial("slower", "student, teacher only, at 2e-5", DISTILLATION | {"learning_rate": 2e-5}),
)


def choose_trials(
    arguments: RetrieverArguments, is_judged: bool, lists: int, seconds: float, text: float
) -> list[Trial]:
    """Select the trials that fit into the time, at least the first.

    Args:
        arguments: the options.
        is_judged: training queries have judgments.
        lists: lists of an epoch.
        seconds: the time that is left.
        text: seconds that the encoder takes for a text.
    """
    trials = [trial for trial in TRIALS if is_judged or not trial.needs_labels]
    each = student_seconds(arguments, lists, text)
    return trials[: max(1, int(seconds / each))]


def student_seconds(arguments: RetrieverArguments, lists: int, text: float) -> float:
    """Estimate how long a student of so many lists takes, with `text` seconds for a forward pass of one text."""
    return lists * (arguments.documents_per_query + 1) * text * BACKWARD


def find(name: str) -> Trial:
    """Return the trial of a name."""
    return next(trial for trial in TRIALS if trial.name == name)


def best_value(arguments: RetrieverArguments, trial: Trial) -> float:
    """Return the best nDCG@10 of a trained student on the dev lists, that of the checkpoint that was kept."""
    record = json.loads((arguments.student(trial.name) / "training.json").read_text(encoding="utf-8"))
    values = [entry[f"eval_{MEASURE}"] for entry in record["log_history"] if f"eval_{MEASURE}" in entry]
    return max(values)
