"""The scale between a teacher's scores and a student's, for losses that compare the numbers themselves."""

from collections.abc import Callable

from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from m3se.modeling.scoring import ScoreScale
from m3se.trainers.errors import InputError


class FittedScale(TrainerCallback):
    """The option `score_scale` of a training, fitted before its first step where it asks for that.

    Args:
        option: "auto", "learned", a divisor of the teacher's scores, or None.
        model: the student.
        measure: computes the variances of scores within lists, as `measure_spreads` takes them.
        log: writes into the log of the training.

    Attributes:
        teacher_divisor: the teacher's scores are divided by it before they reach a loss.
        spreads: what auto or learned has measured: the spread of the student's and of the teacher's scores, and the
            second as a multiple of the first; None before, and without either.

    Raises:
        InputError: a model without a scale to learn.
    """

    def __init__(
        self,
        option: str | float | None,
        model: PreTrainedModel,
        measure: Callable[[], Tensor],
        log: Callable[[dict], None],
    ):
        self.option, self.model, self.measure, self.log = option, model, measure, log
        self.teacher_divisor = self.option if isinstance(self.option, float) else 1.0
        self.spreads: dict[str, float] | None = None
        if self.option == "learned" and not getattr(model.config, "learn_scale", False):
            raise InputError("score_scale: learned needs a dual encoder or ColBERT with learn_scale")

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Measure both spreads, log them, and bring one side to the other's.

        A run that is resumed finds in its log what was measured then. Its learned scale is in the checkpoint.
        """
        if self.option not in ("auto", "learned"):
            return
        spreads = find_spreads(state.log_history)
        if spreads is None:
            spreads = measure_spreads(self.measure())
            self.log(dict(spreads))
            if self.option == "learned":
                multiply_scale(self.model, spreads["score_scale"])
        self.spreads = spreads
        self.teacher_divisor = spreads["score_scale"] if self.option == "auto" else 1.0


def find_spreads(log_history: list[dict]) -> dict[str, float] | None:
    """Find in a log what `measure_spreads` returned; None if it is not there."""
    for entry in log_history:
        if "score_scale" in entry:
            return {name: entry[name] for name in ("student_spread", "teacher_spread", "score_scale")}
    return None


def measure_spreads(variances: Tensor) -> dict[str, float]:
    """Measure how far scores spread within lists: the root of the mean variance.

    Args:
        variances: of the student's and of the teacher's scores [lists, 2], NaN where a list has too few.

    Raises:
        InputError: there is no list to measure, or either side gives all documents of each the same score.
    """
    student, teacher = variances.double().nanmean(dim=0).sqrt().tolist()
    if not (student > 0 and teacher > 0):
        raise InputError(
            f"score_scale: expected scores that differ within the {len(variances)} lists of the training "
            f"sample, got a spread of {student:.3g} from the student and {teacher:.3g} from the teacher"
        )
    return {"student_spread": student, "teacher_spread": teacher, "score_scale": teacher / student}


def multiply_scale(model: PreTrainedModel, ratio: float) -> None:
    """Make a model's learned scale `ratio` times as large, also in the copy that adapters train."""
    for module in model.modules():
        if isinstance(module, ScoreScale):
            module.multiply(ratio)
