"""Train the teacher: a cross-encoder, by one-hot softmax cross-entropy over positives and BM25 negatives.

    accelerate launch run_scripts/train_teacher.py --recipe run_scripts/recipes/quickstart/teacher.yaml

Writes a checkpoint that score_with_teacher.py, evaluate.py and publish.py read, and beside it training.json and
data_report.json, which counts what was read and left out. A second run with the same options and data reuses it; an
interrupted one goes on from its last checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from transformers import HfArgumentParser, PreTrainedModel

from m3se.modeling.cross_encoder import CrossEncoder
from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import DevArguments, EncoderArguments, RunArguments, option
from m3se.run_scripts.cli.training import adapt, train
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import (
    BM25Index,
    RankingLists,
    lists_relevant_from,
    read_data,
    relevant_from,
    training_lists,
)
from m3se.trainers.data.schema import hash_subset, holds_lists
from m3se.trainers.models.backbones import encoder_path


@dataclass
class TeacherData:
    """The queries that a teacher is trained on, and their lists."""

    _argument_group_name = "data"

    data: str = option(
        "pydocs (documentation of the installed libraries), a folder or Hub id of queries, or a folder of ranking "
        "lists, which are used as they are.",
        "pydocs",
    )
    documents_per_query: int = option("K: the positives and BM25 negatives of a query.", 8)
    depth: int = option("Negatives are drawn from BM25's top this many.", 50)
    train_queries: int | None = option("Use this many, the first by hash of their id.")


def make_parser() -> HfArgumentParser:
    """Return the parser of this command's options."""
    return HfArgumentParser(
        (TeacherData, EncoderArguments, DevArguments, RunArguments, RankingConfig), description=__doc__
    )


def main(
    data: TeacherData, encoder: EncoderArguments, dev: DevArguments, run_arguments: RunArguments, config: RankingConfig
) -> None:
    """Train the teacher.

    Args:
        data: what it is trained on.
        encoder: what training starts from.
        dev: what is measured meanwhile.
        run_arguments: what happens to another run in output_dir.
        config: options of the training.
    """
    train(
        data,
        encoder,
        dev,
        run_arguments,
        config,
        build_model=lambda: build_model(encoder),
        read_lists=lambda: prepare_lists(data, dev, config.seed),
    )


def build_model(arguments: EncoderArguments) -> PreTrainedModel | PeftModel:
    """Return the untrained teacher.

    Raises:
        InputError: the encoder cannot be used, or an option does not fit it.
    """
    fields = {name: getattr(arguments, name) for name in ("layers", "dropout", "query_length", "document_length")}
    model = CrossEncoder.from_encoder(encoder_path(arguments.encoder), **fields)
    return adapt(model, arguments)


def prepare_lists(data: TeacherData, arguments: DevArguments, seed: int) -> RankingLists:
    """Give the training queries their positives and BM25 negatives; ranking lists have theirs."""
    if holds_lists(data.data):
        return lists_relevant_from(RankingLists.load(data.data).first(data.train_queries), arguments.relevance_level)
    cache_dir, allow_missing = arguments.cache_dir, arguments.allow_missing
    collection = read_data(data.data, "train", cache_dir=cache_dir, allow_missing=allow_missing)
    collection = relevant_from(collection, arguments.relevance_level)
    if data.train_queries is not None:
        collection = collection.only(hash_subset(collection.queries, data.train_queries))
    index = BM25Index.build(collection.documents, cache_dir=Path(cache_dir), tokenizer=arguments.bm25_tokenizer)
    options = {"depth": data.depth, "seed": seed, "keep_identical_ids": arguments.keep_identical_ids}
    return training_lists(collection, index, data.documents_per_query, **options)


if __name__ == "__main__":
    run(make_parser, main)
