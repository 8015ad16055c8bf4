"""The students that are tried, in this order while the time lasts; held-out queries choose among them."""

import json
from dataclasses import dataclass, field

from m3se.run_scripts.retriever.measure import MEASURE
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.run_scripts.work.list_making import is_by_score


RATE = 5e-5
BACKWARD = 3.0  # forward and backward pass, in forward passes
LEAST_LISTS = 320  # 20 steps; two hardly moved the quickstart's encoder
FEWEST, MOST = 2, 10  # evaluations of a student
MATCHED = 96  # texts of a step that matches embeddings
MATCHING_STEPS = 300, 1200  # at least and at most; the studies' three layers were still getting better at the end
MATCHING_SHARE = 0.4  # of the time that they may take
SECONDS_APART = 120  # they are


@dataclass(frozen=True)
class Trial:
    """A student to train.

    Attributes:
        name: of its folder.
        title: of its row in tables.
        options: of distill.py.
        needs_labels: it learns from judgments alone.
        teacher: title of the student that teaches it; empty: those of the options do.
    """

    name: str
    title: str
    options: dict = field(default_factory=dict)
    needs_labels: bool = False
    teacher: str = ""


SHARED = {"learning_rate": RATE, "in_batch_negatives": True}
DISTILLATION = SHARED | {"loss": "softmax_distillation", "loss_args": {"teacher_temperature": "auto"}}
TRIALS = (
    Trial("mixed", "student, teacher and labels", DISTILLATION | {"one_hot_weight": 0.5}, needs_labels=True),
    Trial("labels", "student, labels only", SHARED | {"loss": "softmax_ce"}, needs_labels=True),
    Trial("distilled", "student, teacher only", DISTILLATION),
    Trial("slower", "student, teacher only, at 2e-5", DISTILLATION | {"learning_rate": 2e-5}),
)
FIRST_LAYERS = Trial("first_layers", "the encoder's first layers")  # no student yet: what students start from


def later_round(number: int, best: Trial) -> Trial:
    """Return the trial of round 2 and later: the best student so far, trained once more as it was."""
    return Trial(f"round{number}", f"student, round {number}", best.options)


def born_again(number: int, teacher: Trial) -> Trial:
    """Return the trial of a new student in round 2 or later, which another student teaches.

    It is trained as that one was, with labels or without. A student of labels alone teaches beside labels.
    """
    options = find("mixed").options if teacher.name == "labels" else teacher.options
    return Trial(f"round{number}", f"student, born again in round {number}", options, teacher=teacher.title)


@dataclass(frozen=True)
class Plan:
    """The number of lists, the names of the trials, and how often each is measured on the dev lists.

    `matching_steps`: before them, of the encoder's first layers, which match the embeddings of all; 0 for students of
    all layers.
    """

    lists: int
    trials: list[str]
    evaluations: int
    matching_steps: int = 0


def plan_matching(arguments: RetrieverArguments, text: float, seconds: float) -> tuple[int, float]:
    """Return how many steps the first layers match the embeddings of all, and the seconds these take.

    Args:
        arguments: the options.
        text: seconds that the first layers take for a text.
        seconds: the time for scoring and training.
    """
    if arguments.layers is None:
        return 0, 0.0
    step = MATCHED * text * BACKWARD
    least, most = MATCHING_STEPS
    steps = max(least, min(most, int(seconds * MATCHING_SHARE / step)))
    return steps, steps * step


def make_plan(arguments: RetrieverArguments, measured: dict, queries: dict, seconds: float) -> tuple[Plan, str]:
    """Decide how many lists and which students the time allows, and describe what they will cost.

    Two students are always made room for, one where nothing is judged, and one in every later round; further ones are
    tried if time is left. Where it is short, LEAST_LISTS are planned all the same.

    Args:
        arguments: the options.
        measured: seconds a text and a pair take, as in gain.json.
        queries: how many there are, as in queries.json.
        seconds: the time for scoring and training.
    """
    text, pair = measured["seconds_per_text"] * arguments.share_of_layers(), measured["seconds_per_pair"]
    steps, matching = plan_matching(arguments, text, seconds)
    seconds -= matching
    available, is_judged = queries["train"]["queries"], queries["train"]["judged"] > 0
    later = arguments.rounds - 1
    pairs = arguments.depth if is_by_score(arguments) else arguments.documents_per_query
    if arguments.born_again:
        scoring = pairs * pair + later * (pairs + 1) * text  # a list; a student embeds its texts
    else:
        seconds -= later * queries["documents"] * text  # a round embeds the documents anew
        scoring = arguments.rounds * pairs * pair
    training = (arguments.documents_per_query + 1) * text * BACKWARD  # a list
    measured_queries = min(queries["dev"]["queries"], arguments.measured_queries)
    evaluation = measured_queries * (arguments.held_out_depth + 1) * text
    students = min(2 if is_judged else 1, arguments.students) + later
    unmeasured = seconds - students * FEWEST * evaluation
    lists = min(available, max(LEAST_LISTS, int(unmeasured / (scoring + students * training))))
    evaluations = max(FEWEST, min(MOST, int(lists * training / SECONDS_APART)))
    each = lists * training + evaluations * evaluation
    count = max(students, int((seconds - lists * scoring) / each)) - later
    names = [trial.name for trial in TRIALS if is_judged or not trial.needs_labels]
    names = names[: min(count, arguments.students)]
    cost = (
        f"plan: {lists:,} of {available:,} training queries; about {lists * scoring / 60:.0f} minutes for "
        f"scoring and {each / 60:.0f} for each of {len(names) + later} students"
    )
    if steps:
        cost += f", after {matching / 60:.0f} for {arguments.layers} layers that match the start's embeddings"
    if arguments.born_again:
        cost += f"; {describe_teachers(arguments)}"
    missing = students * each + lists * scoring - seconds
    if missing > 0 and lists <= LEAST_LISTS:
        cost += f"; {missing / 60:.0f} minutes more than --hours leaves; fewer would hardly move an encoder"
    elif lists < available:
        cost += "; more --hours would use more queries"
    return Plan(lists, names, evaluations, steps), cost


def describe_teachers(arguments: RetrieverArguments) -> str:
    """Say which teacher scores the lists of which round."""
    teachers = [" + ".join(arguments.teacher), "the best student of round 1"]
    for number in range(2, arguments.rounds):
        teachers.append(f"the student of round {number}")
    return ", ".join(f"round {number} is taught by {teacher}" for number, teacher in enumerate(teachers, start=1))


def find(name: str) -> Trial:
    """Return the trial of a name in the first round."""
    return next(trial for trial in TRIALS if trial.name == name)


def best_value(arguments: RetrieverArguments, trial: Trial) -> float:
    """Return the nDCG@10 of a trained student on the dev lists: the best, whose checkpoint was kept.

    A student that keeps a share of the start's weights has been measured once more, with them.
    """
    record = json.loads((arguments.student(trial.name) / "training.json").read_text(encoding="utf-8"))
    values = [entry[f"eval_{MEASURE}"] for entry in record["log_history"] if f"eval_{MEASURE}" in entry]
    return values[-1] if record.get("hyperparameters", {}).get("start_share") else max(values)
