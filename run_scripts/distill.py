"""Distil a teacher's scores into a student: a dual encoder, ColBERT or a smaller cross-encoder.

    accelerate launch run_scripts/distill.py --recipe run_scripts/recipes/stages/de_m3se.yaml

`--data` is a folder of lists that score_with_teacher.py wrote. Flags after the recipe override it. A second run with
the same options and data is reused; an interrupted one goes on from its last checkpoint.
"""

from dataclasses import dataclass, field

from m3se.run_scripts.cli.app import load_work, run
from m3se.run_scripts.cli.arguments import REQUIRED, DevArguments, EncoderArguments, RunArguments, option
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.run_scripts.cli.training_options import training_parser
from m3se.trainers.errors import InputError
from m3se.trainers.options import parse_mapping


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
    """The student and the lists that it learns from."""

    _argument_group_name = "student"

    data: str = option("Folder of training lists, with teacher scores unless the loss needs none.", REQUIRED)
    architecture: str = option("dual_encoder, colbert or cross_encoder.", "dual_encoder")
    pooling: str | None = option(
        "Dual encoder: cls, mean, which truncated encoders need, or last, the last token, for decoders "
        "(default: what the encoder's folder says, else cls)."
    )
    tied: bool = option("Dual encoder: one encoder for queries and documents.", True)
    query_prompt: str | None = option(
        "Put before every query, such as 'query: '; empty: nothing (default: what the encoder's folder says)."
    )
    document_prompt: str | None = option("Likewise before every document.")
    projection_size: int | None = option(
        "Width of a linear layer on the embedding; 0: none "
        "(default: ColBERT 128; dual encoder what the encoder's folder has, else none)."
    )
    output_norm: bool = option("Dual encoder: a LayerNorm on the embedding.", False)
    normalize: bool | None = option(
        "Dual encoder: embeddings of unit length, compared by cosine "
        "(default: yes where it only matches embeddings; what the encoder's folder says, without layers; else no)."
    )
    scale: float | None = option(
        "Factor on all scores (default: 20 for cosines or, of a colbert, their means, else 1)."
    )
    learn_scale: bool | None = option("Learn the scale, from there on (default: with score_scale learned).")
    embedding_dropout: float = option("Dropout on the embedding (Appendix B).", 0.1)
    colbert_args: dict | str | None = field(
        default_factory=dict,
        metadata={"help": f"ColBERT: more of its config, a mapping or JSON: {', '.join(COLBERT_ARGS)}."},
    )
    train_rows: int | None = option("Use this many lists, the first by hash.")
    embedding_teacher: str | None = option(
        "Dual encoder: folder or Hub id of a model whose embeddings it matches (of ColBERT: their mean over a text). "
        "With ranking_weight 0, --data may be any collection with queries."
    )
    document_encoder: str | None = option(
        "Dual encoder: folder or Hub id of a model that embeds the documents and stays as it is. Only queries are "
        "trained, also to match its embeddings of them."
    )
    refresh_steps: int | None = option(
        "Dual encoder: draw the negatives of all lists anew every so many optimiser steps, from what the student then "
        "ranks best in the whole collection (default: 0, never)."
    )
    refresh_depth: int | None = option("From so many of its best documents (default: 100).")
    refresh_teacher: list[str] | None = option(
        "Teacher of the new lists, or several, whose mean counts: needed where the loss reads teacher scores."
    )

    def __post_init__(self):
        if isinstance(self.colbert_args, str):
            self.colbert_args = parse_mapping("colbert_args", self.colbert_args)
        if unknown := sorted(self.colbert_args.keys() - set(COLBERT_ARGS)):
            raise InputError(f"colbert_args: expected {', '.join(COLBERT_ARGS)}, got {', '.join(unknown)}")
        if self.projection_size is not None and self.projection_size < 0:
            raise InputError(f"projection_size: expected a width, or 0 for none, got {self.projection_size}")
        if self.architecture == "cross_encoder" and (self.scale is not None or self.learn_scale):
            raise InputError("scale, learn_scale: a cross_encoder has none; its last layer scales its scores")
        if self.architecture != "dual_encoder" and self.normalize is not None:
            raise InputError("normalize: of a dual_encoder; a colbert has it in colbert_args")
        for name in ("embedding_teacher", "document_encoder"):
            if getattr(self, name) is not None and self.architecture != "dual_encoder":
                raise InputError(f"{name}: for a dual_encoder, which makes one vector of a text")
        if self.document_encoder is not None:
            self.check_document_encoder()
        self.check_refreshing()

    def check_document_encoder(self) -> None:
        """Raise InputError for options about documents, which another model embeds."""
        if self.embedding_teacher not in (None, self.document_encoder):
            raise InputError(
                "embedding_teacher: with document_encoder the queries match that model's own, which are where its "
                f"documents are; leave {self.embedding_teacher} out"
            )
        reasons = {
            "tied": ("false would train another encoder of documents", not self.tied),
            "document_prompt": ("documents are embedded with that model's own", self.document_prompt is not None),
            "output_norm": ("such a query encoder could not be published", self.output_norm),
        }
        for name, (reason, applies) in reasons.items():
            if applies:
                raise InputError(f"{name}: {reason}, {self.document_encoder}")

    def check_refreshing(self) -> None:
        """Raise InputError for new negatives that could not be drawn; with refresh_steps 0 none are."""
        if self.refresh_steps == 0:
            return
        for name in ("refresh_depth", "refresh_teacher"):
            if self.refresh_steps is None and getattr(self, name) is not None:
                raise InputError(f"{name}: has no effect without refresh_steps")
        for name, lowest in (("refresh_steps", 0), ("refresh_depth", 1)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise InputError(f"{name}: expected at least {lowest}, got {value}")
        if self.refresh_steps is not None and self.architecture != "dual_encoder":
            raise InputError(f"refresh_steps: expected a dual_encoder, which searches, got {self.architecture}")


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return training_parser((StudentArguments, EncoderArguments, DevArguments, RunArguments), __doc__)


def main(*options: object) -> None:
    """Train the student; the options are those of `work.distill.main`."""
    load_work("distill").main(*options)


if __name__ == "__main__":
    run(make_parser, main)
