"""Distil a teacher's scores into a student: a dual encoder, ColBERT or a smaller cross-encoder.

    accelerate launch run_scripts/distill.py --recipe run_scripts/recipes/quickstart/de_m3se.yaml

`--data` is a folder of lists that score_with_teacher.py wrote. Flags after the recipe override it. A second run with
the same options and data is reused; an interrupted one goes on from its last checkpoint.
"""

from dataclasses import dataclass, field
from pathlib import Path

from peft import PeftModel
from transformers import HfArgumentParser, PreTrainedModel

from m3se.modeling.colbert import ColBERT
from m3se.modeling.cross_encoder import CrossEncoder
from m3se.modeling.dual_encoder import DualEncoder
from m3se.run_scripts.cli.app import run
from m3se.run_scripts.publishing.push import make_publisher
from m3se.trainers import backbones as encoders
from m3se.trainers import fitting as training
from m3se.trainers.config import RankingConfig, parse_mapping
from m3se.trainers.data import RankingLists
from m3se.trainers.data.schema import hash_subset
from m3se.trainers.errors import InputError
from m3se.trainers.losses import NEEDS_TEACHER


COLBERT_ARGS = (
    "normalize",
    "reduction",
    "markers",
    "mask_augmentation",
    "mask_tokens",
    "attend_to_mask",
    "skip_punctuation",
)


@dataclass
class StudentArguments:
    _argument_group_name = "student"

    data: str = field(metadata={"help": "Folder of training lists, with teacher scores unless the loss needs none."})
    architecture: str = field(default="dual_encoder", metadata={"help": "dual_encoder, colbert or cross_encoder."})
    pooling: str | None = field(
        default=None,
        metadata={
            "help": "Dual encoder: cls, or mean, which truncated encoders need "
            "(default: what the encoder's folder says, else cls)."
        },
    )
    tied: bool = field(default=True, metadata={"help": "Dual encoder: one encoder for queries and documents."})
    projection_size: int | None = field(
        default=None,
        metadata={"help": "Width of a linear layer on the embedding; 0: none (default: ColBERT 128, else none)."},
    )
    output_norm: bool = field(default=False, metadata={"help": "Dual encoder: a LayerNorm on the embedding."})
    embedding_dropout: float = field(default=0.1, metadata={"help": "Dropout on the embedding (Appendix B)."})
    colbert_args: dict | str | None = field(
        default_factory=dict,
        metadata={"help": f"ColBERT: more of its config, a mapping or JSON: {', '.join(COLBERT_ARGS)}."},
    )
    train_rows: int | None = field(default=None, metadata={"help": "Use this many lists, the first by hash."})

    def __post_init__(self):
        if isinstance(self.colbert_args, str):
            self.colbert_args = parse_mapping("colbert_args", self.colbert_args)
        if unknown := sorted(self.colbert_args.keys() - set(COLBERT_ARGS)):
            raise InputError(f"colbert_args: expected {', '.join(COLBERT_ARGS)}, got {', '.join(unknown)}")
        if self.projection_size is not None and self.projection_size < 0:
            raise InputError(f"projection_size: expected a width, or 0 for none, got {self.projection_size}")


def make_parser() -> HfArgumentParser:
    return HfArgumentParser(
        (StudentArguments, encoders.ModelArguments, training.DevArguments, training.RunArguments, RankingConfig),
        description=__doc__,
    )


def main(
    student: StudentArguments,
    model_arguments: encoders.ModelArguments,
    dev_arguments: training.DevArguments,
    run_arguments: training.RunArguments,
    config: RankingConfig,
) -> None:
    with training.alone(config):
        publisher = make_publisher(config)
        tokenizer = encoders.load_tokenizer(model_arguments.encoder)
        lists = load_lists(student, config)
        dev = training.dev_lists(student.data, dev_arguments, config.eval_strategy.value)
        arguments = [student, model_arguments]
        key = training.run_key(config, arguments, model_arguments.encoder, {"data": lists, "dev": dev})
        training.seed(config)
        with encoders.as_input_errors():  # before output_dir is touched
            model = build_model(student, model_arguments)
        with config.main_process_first(local=False):  # the others find what it has prepared
            done = training.already_done(config, key, run_arguments.overwrite)
        if done:
            if publisher is not None and config.process_index == 0:
                publisher(Path(config.output_dir))
            return
        training.fit(model, tokenizer, lists, dev, config, training.describe(config, arguments, lists), publisher)


def build_model(student: StudentArguments, arguments: encoders.ModelArguments) -> PreTrainedModel | PeftModel:
    """The untrained student."""
    lengths = {"query_length": arguments.query_length, "document_length": arguments.document_length}
    path = encoders.encoder_path(arguments.encoder)
    if student.architecture == "dual_encoder":
        options = ("pooling", "tied", "projection_size", "output_norm", "embedding_dropout")
        fields = {name: getattr(student, name) for name in options if getattr(student, name) is not None}
        model = DualEncoder.from_encoder(path, layers=arguments.layers, **fields, **lengths)
    elif student.architecture == "colbert":
        fields = student.colbert_args | {"embedding_dropout": student.embedding_dropout}
        if student.projection_size is not None:
            fields["projection_size"] = student.projection_size
        model = ColBERT.from_encoder(path, layers=arguments.layers, **fields, **lengths)
    elif student.architecture == "cross_encoder":
        model = CrossEncoder.from_encoder(path, layers=arguments.layers, **lengths)
    else:
        raise InputError(
            f"architecture: expected dual_encoder, colbert or cross_encoder, got {student.architecture!r}"
        )
    encoders.check_lengths(model)
    encoders.set_dropout(model, arguments.dropout)
    return encoders.with_adapter(model, arguments)


def load_lists(student: StudentArguments, config: RankingConfig) -> RankingLists:
    """The training lists; raises InputError when the loss needs teacher scores that they do not have."""
    lists = RankingLists.load(student.data)
    if student.train_rows is not None:
        kept = hash_subset(lists.rows["query_id"], student.train_rows)
        lists.rows = lists.rows.select([i for i, name in enumerate(lists.rows["query_id"]) if name in kept])
    if len(lists.rows) == 0:
        raise InputError(f"{student.data}: no list to train on (train_rows: {student.train_rows})")
    if config.loss in NEEDS_TEACHER and "teacher_scores" not in lists.rows.column_names:
        raise InputError(f"{student.data}: loss {config.loss} needs teacher scores; run score_with_teacher.py first")
    return lists


if __name__ == "__main__":
    run(make_parser, main)
