import inspect
import json
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from trainers.errors import InputError
from trainers.losses import LOSSES
from trainers.precision import autocast_dtype


@dataclass
class RankingConfig(TrainingArguments):
    """`TrainingArguments`, and what this project adds. Defaults that differ are the paper's (Appendix B)."""

    loss: str = field(
        default="softmax_distillation", metadata={"help": f"What is minimised: {', '.join(LOSSES)} (docs/losses.md)."}
    )
    loss_args: dict | str = field(
        default_factory=dict, metadata={"help": "Hyperparameters of the loss: a mapping, or JSON on the command line."}
    )
    one_hot_weight: float = field(
        default=0.0, metadata={"help": "Share w of the one-hot loss: (1 - w) * loss + w * softmax_ce."}
    )
    in_batch_negatives: bool = field(
        default=False, metadata={"help": "Other queries' documents, of all processes, become negatives (C.12)."}
    )
    uniform_negatives: int = field(
        default=0, metadata={"help": "Documents drawn from the whole collection as negatives of every batch (C.12)."}
    )
    token_dropout: float = field(
        default=0.0, metadata={"help": "Share of input tokens hidden in training, never special ones (C.10)."}
    )
    mlm_weight: float = field(default=0.0, metadata={"help": "Weight of a masked-LM loss beside the ranking (C.10)."})
    forward_chunk_size: int | None = field(
        default=None,
        metadata={
            "help": "Embed this many texts at a time, and again in the backward pass: saves memory."
        },
    )
    train_sample_size: int = field(
        default=200, metadata={"help": "Training queries, always the same, that every evaluation measures beside dev."}
    )
    precision: str = field(
        default="auto", metadata={"help": "auto (bf16 where the processor has it), bf16, fp16 or fp32."}
    )
    learning_rate: float = field(default=2.8e-5, metadata={"help": "Initial learning rate of AdamW."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "A NaN loss stops training instead."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator reads the text columns."})
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "From the collator."}
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "All parameters are used."})
    ddp_broadcast_buffers: bool | None = field(default=False, metadata={"help": "Encoders have no running state."})

    def __post_init__(self):
        if isinstance(self.loss_args, str):
            self.loss_args = parse_mapping("loss_args", self.loss_args)
        check_loss(self.loss, self.loss_args)
        for name, low, high in (("one_hot_weight", 0, 1), ("token_dropout", 0, 1), ("mlm_weight", 0, torch.inf)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        if self.uniform_negatives < 0:
            raise InputError(f"uniform_negatives: expected 0 or more, got {self.uniform_negatives}")
        if self.precision not in ("auto", "bf16", "fp16", "fp32"):
            raise InputError(f"precision: expected auto, bf16, fp16 or fp32, got {self.precision!r}")
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        device = "cpu" if self.use_cpu else torch.accelerator.current_accelerator()
        auto_bf16 = self.precision == "auto" and autocast_dtype(device) == torch.bfloat16
        self.bf16, self.fp16 = self.precision == "bf16" or auto_bf16, self.precision == "fp16"
        super().__post_init__()


def parse_mapping(name: str, text: str) -> dict:
    """JSON object -> dict; raises InputError naming the option."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: expected a JSON mapping, got {text!r} ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{name}: expected a JSON mapping, got {text!r}")
    return value


def check_loss(name: str, hyperparameters: dict) -> None:
    """Raise InputError for an unknown loss, or a hyperparameter that it does not have (naming those it has)."""
    if name not in LOSSES:
        raise InputError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}")
    parameters = inspect.signature(LOSSES[name]).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    if unknown := sorted(hyperparameters.keys() - set(known)):
        raise InputError(f"loss_args: {name} has {', '.join(known) or 'no hyperparameters'}, got {', '.join(unknown)}")
