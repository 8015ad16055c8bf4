"""The steps of the commands that train, from options to the model's folder."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, set_seed

from m3se.run_scripts.cli.arguments import DevArguments, EncoderArguments, RunArguments
from m3se.run_scripts.publishing.push import make_publisher
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import (
    BM25Index,
    RankingLists,
    candidate_lists,
    lists_relevant_from,
    read_data,
    relevant_from,
)
from m3se.trainers.data.schema import hash_subset, holds_lists
from m3se.trainers.errors import InputError
from m3se.trainers.fitting import fit
from m3se.trainers.matching.other_model import OtherModel
from m3se.trainers.models.backbones import as_input_errors, check_lengths, encoder_path
from m3se.trainers.models.inspection import inspect_model, load_tokenizer
from m3se.trainers.models.lora import add_adapter
from m3se.trainers.refreshing.plan import RefreshPlan
from m3se.trainers.run_folder import already_done, run_key, start_record
from m3se.trainers.storage.lock import exclusive
from m3se.trainers.trainer_options import refuse_missing_packages


def train(
    data: object,
    encoder: EncoderArguments,
    dev_arguments: DevArguments,
    run_arguments: RunArguments,
    config: RankingConfig,
    build_model: Callable[[], PreTrainedModel],
    read_lists: Callable[[], RankingLists],
    other: OtherModel | None = None,
    plan: RefreshPlan | None = None,
) -> None:
    """Train a model, or reuse the finished run of the same options and data.

    Options that cannot be used are refused before data are read, and output_dir is touched last.

    Args:
        data: the command's own options, a dataclass with the name of the data in `data`.
        encoder: what training starts from.
        dev_arguments: what is measured meanwhile.
        run_arguments: what happens to another run in output_dir.
        config: options of the training.
        build_model: makes the untrained model.
        read_lists: reads what is trained on.
        other: a model whose embeddings the training needs.
        plan: of negatives that are drawn anew.

    Raises:
        InputError: an option, the encoder, the data or output_dir cannot be used.
    """
    with only_process_in(config):
        publish = make_publisher(config)
        tokenizer = load_tokenizer(encoder_path(encoder.encoder))
        set_seed(config.seed)  # new layers are then the same in every process and every run
        with as_input_errors(encoder.encoder):
            model = build_model()
            inspect_model(model, tokenizer, encoder.encoder)
        config.check_dev_loss(scored=False)  # dev lists are BM25's
        refuse_missing_packages(config, model)
        lists = read_lists()
        if plan is not None:
            plan.check(lists)
        dev = read_dev_lists(data.data, dev_arguments, config.eval_strategy.value)
        sources = {"data": lists} if dev is None else {"data": lists, "dev": dev}
        key = run_key(config, [data, encoder], encoder_path(encoder.encoder), sources)
        companions = [companion for companion in (other, plan) if companion is not None]
        for companion in companions:
            key |= companion.identity()
        with config.main_process_first(local=False):  # the others find what it has prepared
            done = already_done(config, key, run_arguments.overwrite)
        if not done:
            prompts = {"query": model.config.query_prompt, "document": model.config.document_prompt}
            record = start_record(config, [data, encoder], lists) | {"prompts": prompts}
            for companion in companions:
                record |= companion.about()
            embeddings = None if other is None else other.embed(lists, dev, dev_arguments.cache_dir)
            fit(model, tokenizer, lists, dev, config, record, publish, embeddings, plan)
        elif publish is not None and config.process_index == 0:
            publish(Path(config.output_dir))


def adapt(model: PreTrainedModel, encoder: EncoderArguments) -> PreTrainedModel | PeftModel:
    """Give a new model adapters, if the options ask for them.

    Raises:
        InputError: texts of these lengths or these adapters do not fit the encoder.
    """
    check_lengths(model)
    if encoder.lora_r is None:
        return model
    return add_adapter(model, encoder.lora_r, encoder.lora_alpha, encoder.lora_dropout, encoder.lora_targets)


def only_process_in(config: RankingConfig) -> AbstractContextManager[None]:
    """Let the first process of the launch lock output_dir; raises InputError naming who is there."""
    return exclusive(config.output_dir) if config.process_index == 0 else nullcontext()


def read_dev_lists(data: str, arguments: DevArguments, eval_strategy: str) -> RankingLists | None:
    """Give the dev queries their BM25 candidates, as a re-ranker meets them; None without any.

    A folder of ranking lists has its own.

    Raises:
        InputError: there are no dev queries, but `eval_strategy` would measure them.
    """
    if arguments.dev_queries == 0:
        if eval_strategy != "no":
            raise InputError(f"dev_queries is 0, but eval_strategy {eval_strategy} measures dev; set it to no")
        return None
    if arguments.dev_data is not None and holds_lists(arguments.dev_data):
        lists = RankingLists.load(arguments.dev_data).first(arguments.dev_queries)
        return lists_relevant_from(lists, arguments.relevance_level)
    cache = Path(arguments.cache_dir)
    collection = read_data(arguments.dev_data or data, "dev", cache_dir=cache, allow_missing=arguments.allow_missing)
    collection = relevant_from(collection, arguments.relevance_level)
    collection = collection.only(hash_subset(collection.queries, arguments.dev_queries))
    index = BM25Index.build(collection.documents, cache_dir=cache, tokenizer=arguments.bm25_tokenizer)
    return candidate_lists(collection, index, arguments.dev_depth, keep_identical_ids=arguments.keep_identical_ids)
