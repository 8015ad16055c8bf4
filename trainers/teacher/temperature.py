"""The temperature of a teacher's softmax, chosen from its scores, and the meaning of the scores for each loss."""

import logging

from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.losses import LOSSES, NEEDS_TEACHER
from m3se.trainers.teacher.calibration import Calibration, calibrate, flat_columns
from m3se.trainers.teacher.targets import TOP_SHARE, auto_share, find_temperature


logger = logging.getLogger(__name__)

SCALED = "score_scale auto brings them to the student's spread"


def resolve_temperature(loss_args: dict, lists: RankingLists) -> dict:
    """Return the hyperparameters of a loss with a number for a `teacher_temperature` of `auto` or `auto SHARE`.

    It depends on the lists alone, so a run that is resumed has the same.

    Raises:
        InputError: no temperature gives the best document its share.
    """
    share = auto_share(loss_args.get("teacher_temperature"))
    if share is None:
        return loss_args
    scores, _, sizes, _ = flat_columns(lists)
    temperature = find_temperature(scores, sizes, share)
    if temperature is None:
        raise InputError(
            f"teacher_temperature auto: no temperature gives the best document {share:g} of the softmax; "
            "give a number (its scores are alike, or its lists have one document)"
        )
    logger.info("teacher_temperature auto: %.4g, where the best document has %g on average", temperature, share)
    return loss_args | {"teacher_temperature": temperature}


def describe_loss(lists: RankingLists, loss: str, loss_args: dict) -> str:
    """Say what the teacher's scores mean for the loss that is going to be used.

    Raises:
        InputError: there are no scores, or all are the same.
    """
    temperature = loss_args.get("teacher_temperature", loss_args.get("temperature", 1.0))
    return f"{loss}: {describe_meaning(calibrate(lists, temperature), loss)}"


def describe_meanings(calibration: Calibration) -> list[str]:
    """Say what a teacher's statistics mean for the losses that read them: one line for all that read the same."""
    losses: dict[str, list[str]] = {}
    for loss in LOSSES:
        if loss in NEEDS_TEACHER:
            losses.setdefault(describe_meaning(calibration, loss), []).append(loss)
    return [f"{', '.join(names)}: {meaning}" for meaning, names in losses.items()]


def describe_meaning(calibration: Calibration, loss: str) -> str:
    """Say what a teacher's statistics mean for a loss that reads them."""
    if loss == "softmax_distillation":
        return describe_sharpness(calibration)
    if loss in ("margin_mse", "m3se"):
        if calibration.mean_margin is None:
            return "needs lists with a positive and a negative, and these have none"
        margin = f"{calibration.mean_margin:.3g}"
        return f"the student has to reach the teacher's margins, {margin} on average; {SCALED}"
    scores = f"{calibration.mean:.3g} on average, from {calibration.minimum:.3g} to {calibration.maximum:.3g}"
    return f"the student has to reach the teacher's scores themselves, {scores}; {SCALED}"


def describe_sharpness(calibration: Calibration) -> str:
    """Say how sharp the teacher's softmax is, and what `auto` would make of it."""
    targets, auto = calibration.targets, calibration.auto
    share = f"at teacher_temperature {targets.temperature:.3g} the best document has {targets.top_probability:.2f}"
    if auto is None:
        return f"{share} of the softmax on average; auto finds no temperature for these scores"
    return f"{share} of the softmax on average; auto takes {auto.temperature:.3g}, where it has {TOP_SHARE:g}"
