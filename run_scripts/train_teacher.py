"""Train the teacher: a cross-encoder, by one-hot softmax cross-entropy over positives and BM25 negatives.

    accelerate launch run_scripts/train_teacher.py --recipe run_scripts/recipes/quickstart/teacher.yaml

Writes a checkpoint that score_with_teacher.py, evaluate.py and publish.py read, and beside it training.json and
data_report.json, which counts what was read and left out. A second run with the same options and data reuses it; an
interrupted one goes on from its last checkpoint.
"""

from dataclasses import dataclass, field
from pathlib import Path

from peft import PeftModel
from transformers import HfArgumentParser, PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.cross_encoder import CrossEncoder
from m3se.run_scripts.cli.app import run
from m3se.run_scripts.publishing.push import make_publisher
from m3se.trainers import backbones as encoders
from m3se.trainers import fitting as training
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import BM25Index, RankingLists, read_data, training_lists
from m3se.trainers.data.schema import hash_subset
from m3se.trainers.errors import InputError


@dataclass
class TeacherData:
    _argument_group_name = "data"

    data: str = field(
        default="pydocs",
        metadata={"help": "pydocs (documentation of the installed libraries), or a folder or Hub id of queries."},
    )
    documents_per_query: int = field(default=8, metadata={"help": "K: the positives and BM25 negatives of a query."})
    depth: int = field(default=50, metadata={"help": "Negatives are drawn from BM25's top this many."})
    train_queries: int | None = field(default=None, metadata={"help": "Use this many, the first by hash of their id."})


def make_parser() -> HfArgumentParser:
    return HfArgumentParser(
        (TeacherData, encoders.ModelArguments, training.DevArguments, training.RunArguments, RankingConfig),
        description=__doc__,
    )


def main(
    data: TeacherData,
    model_arguments: encoders.ModelArguments,
    dev_arguments: training.DevArguments,
    run_arguments: training.RunArguments,
    config: RankingConfig,
) -> None:
    with training.alone(config):
        publisher = make_publisher(config)
        tokenizer = encoders.load_tokenizer(model_arguments.encoder)
        check_pairs(tokenizer)
        lists = prepare_lists(data, dev_arguments, config.seed)
        dev = training.dev_lists(data.data, dev_arguments, config.eval_strategy.value)
        arguments = [data, model_arguments]
        key = training.run_key(config, arguments, model_arguments.encoder, {"data": lists, "dev": dev})
        training.seed(config)
        with encoders.as_input_errors():  # before output_dir is touched
            model = build_model(model_arguments)
        with config.main_process_first(local=False):  # the others find what it has prepared
            done = training.already_done(config, key, run_arguments.overwrite)
        if done:
            if publisher is not None and config.process_index == 0:
                publisher(Path(config.output_dir))
            return
        training.fit(model, tokenizer, lists, dev, config, training.describe(config, arguments, lists), publisher)


def build_model(arguments: encoders.ModelArguments) -> PreTrainedModel | PeftModel:
    """The untrained teacher."""
    model = CrossEncoder.from_encoder(
        encoders.encoder_path(arguments.encoder),
        layers=arguments.layers,
        query_length=arguments.query_length,
        document_length=arguments.document_length,
    )
    encoders.check_lengths(model)
    encoders.set_dropout(model, arguments.dropout)
    return encoders.with_adapter(model, arguments)


def prepare_lists(data: TeacherData, arguments: training.DevArguments, seed: int) -> RankingLists:
    """Positives and BM25 negatives for the training queries."""
    cache_dir, allow_missing = arguments.cache_dir, arguments.allow_missing
    collection = read_data(data.data, "train", cache_dir=cache_dir, allow_missing=allow_missing)
    if data.train_queries is not None:
        collection = collection.only(hash_subset(collection.queries, data.train_queries))
    index = BM25Index.build(collection.documents, cache_dir=Path(cache_dir))
    return training_lists(collection, index, data.documents_per_query, depth=data.depth, seed=seed)


def check_pairs(tokenizer: PreTrainedTokenizerBase) -> None:
    """Our CrossEncoder joins texts as BERT does; raise InputError for a tokeniser that pairs them otherwise."""
    query, document = (tokenizer(text)["input_ids"] for text in ("a query", "a document"))
    if tokenizer("a query", "a document")["input_ids"] != query + document[1:]:
        raise InputError(
            f"encoder: {tokenizer.name_or_path} does not pair texts as [CLS] query [SEP] document [SEP]; "
            "it can score as a teacher but not be trained as one here"
        )


if __name__ == "__main__":
    run(make_parser, main)
