"""The options that this project adds to Trainer's, described without torch: --help does not wait for that."""

import json
from dataclasses import dataclass, field

from m3se.trainers.errors import InputError


TRAINING = "training"  # the group of these options and Trainer's
LOSS_NAMES = ("softmax_ce", "mse", "margin_mse", "m3se", "softmax_distillation", "rankdistil_b", "focal")
COMPARE_NUMBERS = ("mse", "margin_mse", "m3se", "rankdistil_b")  # with the teacher's, not only orders or shares


@dataclass
class RankingOptions:
    """The loss, its negatives and regularisers, and what is measured meanwhile."""

    loss: str = field(
        default="softmax_distillation",
        metadata={"help": f"What is minimised: {', '.join(LOSS_NAMES)} (docs/losses.md)."},
    )
    loss_args: dict | str | None = field(  # HfArgumentParser would call dict() on the text without the None
        default_factory=dict, metadata={"help": "Hyperparameters of the loss: a mapping, or JSON on the command line."}
    )
    one_hot_weight: float = field(
        default=0.0, metadata={"help": "Share w of the one-hot loss: (1 - w) * loss + w * softmax_ce."}
    )
    ranking_weight: float | None = field(
        default=None, metadata={"help": "Weight of all that, beside embedding matching; 0: that alone (default: 1)."}
    )
    embedding_weight: float | None = field(
        default=None, metadata={"help": "Weight of the distance to another model's embeddings (default: 1 with one)."}
    )
    ema_decay: float | None = field(
        default=None,
        metadata={"help": "No teacher: the student's own weights, averaged with this decay, score the lists instead."},
    )
    average_checkpoints: int | None = field(
        default=None, metadata={"help": "Save the mean of the weights of the last so many checkpoints."}
    )
    start_share: float = field(
        default=0.0, metadata={"help": "Share of the start's weights in the saved ones; keeps what it knew elsewhere."}
    )
    score_scale: str | None = field(
        default=None,
        metadata={
            "help": f"Of {', '.join(COMPARE_NUMBERS)}: divide the teacher's scores by a number; auto: by the ratio of "
            "its spread to the student's before step 0; learned: start a learned scale of the student's from there."
        },
    )
    sample_documents: int | None = field(
        default=None, metadata={"help": "Of longer lists this many documents a step, others in every epoch."}
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
        metadata={"help": "Embed this many texts at a time, and again in the backward pass: saves memory."},
    )
    train_sample_size: int = field(
        default=200, metadata={"help": "Training queries, always the same, that every evaluation measures beside dev."}
    )
    precision: str = field(
        default="auto", metadata={"help": "auto (bf16 where the processor has it), bf16, fp16 or fp32."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better one, and keep the best."}
    )


def parse_mapping(name: str, text: str) -> dict:
    """Parse a JSON object; raises InputError naming the option."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: expected a JSON mapping, got {text!r} ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{name}: expected a JSON mapping, got {text!r}")
    return value
