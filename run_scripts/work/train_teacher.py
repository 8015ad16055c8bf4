"""The teacher: a cross-encoder trained on positives and BM25 negatives."""

import logging
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
from peft import PeftModel
from transformers import PreTrainedModel

from m3se.modeling.cross_encoder import CrossEncoder
from m3se.run_scripts.cli.arguments import DevArguments, EncoderArguments, RunArguments
from m3se.run_scripts.train_teacher import TeacherData
from m3se.run_scripts.work.training import adapt, train
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import (
    BM25Index,
    RankingLists,
    lists_relevant_from,
    read_data,
    relevant_from,
    training_lists,
)
from m3se.trainers.data.label_noise import check_noise, move_labels
from m3se.trainers.data.schema import hash_subset, holds_lists
from m3se.trainers.errors import InputError
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.teacher.cross_fitting import fold_numbers


logger = logging.getLogger(__name__)


def main(
    data: TeacherData, encoder: EncoderArguments, dev: DevArguments, run_arguments: RunArguments, config: RankingConfig
) -> None:
    """Train the teacher, or one on each fold of the queries.

    Args:
        data: what it is trained on.
        encoder: what training starts from.
        dev: what is measured meanwhile.
        run_arguments: what happens to another run in output_dir.
        config: options of the training.
    """
    check_folds(data, config)
    check_noise(data.label_noise)
    if data.folds == 1:
        train_one(data, encoder, dev, run_arguments, config)
        return
    for fold in [data.fold] if data.fold else range(1, data.folds + 1):
        logger.info("fold %s of %s", fold, data.folds)
        fold_config = copy(config)
        fold_config.output_dir = str(Path(config.output_dir) / f"fold-{fold}")
        train_one(replace(data, fold=fold), encoder, dev, run_arguments, fold_config)


def check_folds(data: TeacherData, config: RankingConfig) -> None:
    """Raise InputError for folds that cannot be trained."""
    if data.folds < 1:
        raise InputError(f"folds: expected at least 1, got {data.folds}")
    if data.fold is not None and (data.folds == 1 or not 1 <= data.fold <= data.folds):
        raise InputError(f"fold: expected one of 1 to {data.folds}, with more than one fold, got {data.fold}")
    if data.folds > 1 and config.push_to_hub:
        raise InputError("folds: several teachers cannot be pushed to one repository; leave push_to_hub out")
    if data.folds > 1 and data.fold is None and config.world_size > 1:
        raise InputError("folds: a launch of several processes trains one of them: give --fold 1, then --fold 2 …")


def train_one(
    data: TeacherData, encoder: EncoderArguments, dev: DevArguments, run_arguments: RunArguments, config: RankingConfig
) -> None:
    """Train one teacher; the arguments are those of `main`.

    Args:
        data: what it is trained on; `fold` names its part.
        encoder, dev, run_arguments: as of `main`.
        config: options of the training, with the folder of this teacher.
    """
    train(
        data,
        encoder,
        dev,
        run_arguments,
        config,
        build_model=lambda: build_model(encoder),
        read_lists=lambda: only_fold(move_labels(prepare_lists(data, dev, config.seed), data.label_noise), data),
    )


def only_fold(lists: RankingLists, data: TeacherData) -> RankingLists:
    """Return the lists of the queries of one fold, or all where there is none.

    Raises:
        InputError: the fold has no query.
    """
    if data.fold is None:
        return lists
    chosen = np.flatnonzero(fold_numbers(lists.rows["query"][:], data.folds) == data.fold)
    if len(chosen) == 0:
        raise InputError(f"fold: no one of {len(lists.rows)} queries falls into fold {data.fold} of {data.folds}")
    return RankingLists(lists.rows.select(chosen), lists.documents, lists.report | {"fold": data.fold})


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
