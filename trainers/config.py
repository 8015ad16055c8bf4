"""The options of a training: their defaults, and the checks that refuse values before any work."""

import inspect
import math
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from m3se.trainers.devices import autocast_dtype
from m3se.trainers.errors import InputError
from m3se.trainers.losses import LOSSES, NEEDS_TEACHER
from m3se.trainers.options import COMPARE_NUMBERS, TRAINING, RankingOptions, parse_mapping
from m3se.trainers.teacher.targets import auto_share
from m3se.trainers.trainer_options import (
    MAPPINGS,
    TRAINER_RANGES,
    refuse_mappings,
    refuse_missing_packages,
    refuse_options,
    refuse_schedule,
)


METRICS = ("nDCG@10", "MRR@10", "loss")  # of `DistillationTrainer.evaluate`
RANGES = {
    "one_hot_weight": (0, 1),
    "ranking_weight": (0, math.inf),
    "embedding_weight": (0, math.inf),
    "ema_decay": (0, 1),
    "average_checkpoints": (2, math.inf),
    "start_share": (0, 1),
    "token_dropout": (0, 1),
    "mlm_weight": (0, math.inf),
    "sample_documents": (2, math.inf),
    "uniform_negatives": (0, math.inf),
    "forward_chunk_size": (1, math.inf),
    "train_sample_size": (0, math.inf),
    "early_stopping_patience": (1, math.inf),
    **TRAINER_RANGES,
}
# Hyperparameters of the losses: a test of their value, and the same in words.
HYPERPARAMETERS = {
    "temperature": (lambda value: 0 < value < math.inf, "a number above 0"),
    "teacher_temperature": (
        lambda value: 0 < value < math.inf,
        "auto, auto SHARE or a number above 0",
    ),
    "label_smoothing": (lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "hinge_power": (lambda value: value in (1, 2), "1 or 2"),
    "gamma0": (math.isfinite, "a number"),
    "margin": (math.isfinite, "a number"),
    "gamma": (lambda value: 0 <= value < math.inf, "a number, 0 or above"),
}


@dataclass
class RankingConfig(RankingOptions, TrainingArguments):
    """`TrainingArguments`, and what this project adds. Defaults that differ are the paper's (Appendix B)."""

    _argument_group_name = TRAINING

    bf16: bool | None = field(
        default=None, metadata={"help": "bfloat16 autocast (default: see precision).", "nargs": "?", "const": True}
    )
    learning_rate: float = field(default=2.8e-5, metadata={"help": "Initial learning rate of AdamW."})
    disable_tqdm: bool | None = field(default=False, metadata={"help": "No progress bars."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "A NaN loss stops training instead."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator reads the text columns."})
    metric_for_best_model: str | None = field(
        default="nDCG@10", metadata={"help": "What the best checkpoint is best in: nDCG@10, MRR@10 or loss, on dev."}
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "A resumed run goes on counting its patience."}
    )
    hub_strategy: str = field(default="end", metadata={"help": "The model is published once, at the end."})
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "From the collator."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "All parameters are used."})
    ddp_broadcast_buffers: bool | None = field(default=False, metadata={"help": "Encoders have no running state."})

    def __post_init__(self):
        """Check all options that this project adds or changes, then Trainer's own.

        Raises:
            InputError: an option has a value that cannot be, no effect here, or needs a package that is missing.
            ValueError: options of Trainer contradict each other.
        """
        if isinstance(self.loss_args, str):
            self.loss_args = parse_mapping("loss_args", self.loss_args)
        self.loss_args = self.loss_args or {}
        check_loss(self.loss, self.loss_args)
        self.score_scale = parse_score_scale(self.score_scale)
        self.check_score_scale()
        self.check_average()
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(
                    f"{name}: expected {f'{low} to {high}' if high < math.inf else f'at least {low}'}, got {value}"
                )
        refuse_options(self)
        self.check_best_metric()
        self.check_checkpoints()
        if self.sample_documents is not None and self.dataloader_persistent_workers:
            raise InputError("sample_documents: needs dataloader_persistent_workers false, which would keep one epoch")
        self.choose_precision()
        for name in MAPPINGS:
            value = getattr(self, name)
            if isinstance(value, str) and value.startswith("{"):
                parse_mapping(name, value)
        try:
            super().__post_init__()
        except (OSError, TypeError) as error:  # a file of options that is missing, or has an unknown entry
            raise InputError(f"options of Trainer: {error}") from None
        refuse_mappings(self)
        refuse_missing_packages(self)
        # DataParallel would split the documents of a batch from the queries that point at them
        self._n_gpu = min(self.n_gpu, 1)
        if self.lr_scheduler_type == "reduce_lr_on_plateau":  # PyTorch takes a falling nDCG for an improvement
            better = {"mode": "max" if self.greater_is_better else "min"}
            self.lr_scheduler_kwargs = better | (self.lr_scheduler_kwargs or {})
        refuse_schedule(self)

    @property
    def ranks(self) -> bool:
        """Return false when the ranking loss has no weight, so that neither labels nor scores are needed."""
        return self.ranking_weight != 0

    def check_score_scale(self) -> None:
        """Raise InputError for a scale that the loss has no use for, or that nothing could be measured for."""
        if self.score_scale is not None and self.loss not in COMPARE_NUMBERS:
            raise InputError(
                f"score_scale: for {', '.join(COMPARE_NUMBERS)}; {self.loss} has temperatures or no use for it"
            )
        if self.score_scale in ("auto", "learned") and self.train_sample_size == 0:
            raise InputError(f"score_scale: {self.score_scale} needs train_sample_size 1 or more, to measure there")

    def check_average(self) -> None:
        """Raise InputError for averaged weights as the teacher of a loss without one, or without labels beside."""
        if self.ema_decay is None:
            return
        if self.loss not in NEEDS_TEACHER:
            raise InputError(f"ema_decay: expected one of {', '.join(sorted(NEEDS_TEACHER))}, got loss {self.loss}")
        if auto_share(self.loss_args.get("teacher_temperature")):
            raise InputError("teacher_temperature: auto reads a teacher's scores; give a number with ema_decay")
        if not self.one_hot_weight:
            raise InputError(
                "ema_decay: expected one_hot_weight above 0; at first the averaged weights are the student's own, of "
                "which it learns nothing"
            )

    @property
    def reads_teacher(self) -> bool:
        """Return true when the loss reads scores that a teacher has given the lists."""
        return self.ranks and self.loss in NEEDS_TEACHER and self.ema_decay is None

    def check_checkpoints(self) -> None:
        """Raise InputError for a mean over checkpoints that are not there in the end, or beside another choice."""
        count = self.average_checkpoints
        if count is None:
            return
        if self.save_strategy not in ("steps", "epoch"):
            raise InputError(f"average_checkpoints: needs save_strategy steps or epoch, got {self.save_strategy}")
        if self.save_total_limit is not None and self.save_total_limit < count:
            limit = f"save_total_limit, which is {self.save_total_limit}"
            raise InputError(f"average_checkpoints: expected at most {limit}, got {count}")
        if self.load_best_model_at_end:
            raise InputError(
                "average_checkpoints: expected load_best_model_at_end and early stopping off; one chooses"
            )

    def check_best_metric(self) -> None:
        """Raise InputError for a metric that `DistillationTrainer.evaluate` does not measure, or never measures."""
        metric = self.metric_for_best_model
        if metric is not None and metric.removeprefix("eval_") not in METRICS:
            raise InputError(f"metric_for_best_model: expected one of {', '.join(METRICS)}, got {metric!r}")
        if metric is not None and self.greater_is_better not in (None, metric.removeprefix("eval_") != "loss"):
            raise InputError(f"greater_is_better: {self.greater_is_better} would keep the worst model by {metric}")
        if self.early_stopping_patience is not None:
            if self.eval_strategy == "no":
                raise InputError("early_stopping_patience: needs eval_strategy steps or epoch")
            self.load_best_model_at_end = True
        if self.save_strategy == "best" and self.eval_strategy == "no":
            raise InputError("save_strategy: best needs eval_strategy steps or epoch, got no")

    def measured_loss(self) -> bool:
        """Return true when the loss on dev decides about checkpoints, patience or the learning rate."""
        decides = (
            self.load_best_model_at_end
            or self.save_strategy == "best"
            or self.lr_scheduler_type == "reduce_lr_on_plateau"
        )
        return bool(decides) and (self.metric_for_best_model or "").removeprefix("eval_") == "loss"

    def check_dev_loss(self, scored: bool) -> None:
        """Raise InputError when the dev loss decides, but dev lists without teacher scores have none.

        Args:
            scored: the dev lists have teacher scores.
        """
        if self.measured_loss() and not scored and self.loss in NEEDS_TEACHER and not self.one_hot_weight:
            raise InputError(
                f"metric_for_best_model: expected nDCG@10 or MRR@10, got loss: {self.loss} needs teacher scores, "
                "which the dev lists do not have"
            )

    def choose_precision(self) -> None:
        """Turn `precision` into Trainer's bf16 and fp16; auto leaves those alone that were chosen.

        Raises:
            InputError: an unknown precision, one that contradicts bf16 or fp16, or fp16 on a CPU.
        """
        if self.precision not in ("auto", "bf16", "fp16", "fp32"):
            raise InputError(f"precision: expected auto, bf16, fp16 or fp32, got {self.precision!r}")
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.precision == "auto":
            if self.bf16 is None and not self.fp16:
                device = "cpu" if self.use_cpu else torch.accelerator.current_accelerator()
                self.bf16 = autocast_dtype(device) == torch.bfloat16
            self.bf16 = bool(self.bf16)
        else:
            self.set_precision()
        if self.fp16 and self.use_cpu:
            raise InputError("fp16: a CPU would train in fp32 all the same; use precision bf16 or fp32")

    def set_precision(self) -> None:
        """Set bf16 and fp16 by a chosen `precision`; raises InputError if they were chosen otherwise."""
        choices = {"bf16": self.bf16, "fp16": self.fp16 or None}
        for name, choice in choices.items():
            wanted = self.precision == name
            if choice is not None and choice != wanted:
                raise InputError(f"precision: {self.precision} and {name} contradict each other")
            setattr(self, name, wanted)


def parse_score_scale(value: str | float | None) -> str | float | None:
    """Return "auto", "learned" or None as they are and anything else as a number; raises InputError if it is none."""
    if value in (None, "auto", "learned"):
        return value
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise InputError(f"score_scale: expected auto, learned or a number above 0, got {value!r}")
    return number


def check_loss(name: str, values: dict) -> None:
    """Raise InputError for an unknown loss, a hyperparameter that it does not have, or a value that cannot be."""
    if name not in LOSSES:
        raise InputError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}")
    keywords = hyperparameters(name)
    if unknown := sorted(values.keys() - set(keywords)):
        expected = ", ".join(keywords) or "no hyperparameters"
        raise InputError(f"loss_args: {name} has {expected}, got {', '.join(unknown)}")
    for key, value in values.items():
        allowed, words = HYPERPARAMETERS[key]
        if key == "teacher_temperature" and auto_share(value):  # a number takes its place where the lists are read
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not allowed(value):
            raise InputError(f"loss_args: {key}: expected {words}, got {value!r}")


def hyperparameters(name: str) -> list[str]:
    """List the keywords of a loss."""
    parameters = inspect.signature(LOSSES[name]).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
