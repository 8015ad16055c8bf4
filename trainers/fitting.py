"""One training from its lists to the model's folder, as the training commands run it."""

import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.base import RankingModelConfig
from m3se.modeling.cpu_dropout import use_cpu_dropout
from m3se.trainers.callbacks import SummedCheckpoints
from m3se.trainers.collators import RankingCollator
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import RankingLists
from m3se.trainers.distillation_trainer import DistillationTrainer
from m3se.trainers.matching.projection import drop_projection
from m3se.trainers.matching.text_embeddings import TextEmbeddings
from m3se.trainers.refreshing.folders import delete_negatives
from m3se.trainers.refreshing.plan import RefreshPlan
from m3se.trainers.refreshing.trainer import RefreshingTrainer
from m3se.trainers.run_folder import last_checkpoint, save_model, write_record, write_report
from m3se.trainers.trainer_options import replaced_sharding


logger = logging.getLogger(__name__)


def fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lists: RankingLists,
    dev: RankingLists | None,
    config: RankingConfig,
    record: dict,
    publish: Callable[[Path], object] | None = None,
    embeddings: dict[str, TextEmbeddings] | None = None,
    plan: RefreshPlan | None = None,
) -> None:
    """Train a model, going on from the last checkpoint if there is one, and write it and its record to output_dir.

    Args:
        model: one of ours, perhaps with an adapter. On a CPU its dropout is exchanged for `CPUDropout`, which draws
            the same masks faster; that changes no weight, config or file.
        tokenizer: reads the texts of `lists` and `dev`, and is saved beside the model.
        lists: what is trained on.
        dev: what is measured while training; None for nothing.
        config: options; `output_dir` is where everything goes.
        record: what is known of the run before it starts; training.json gets it with what training adds.
        publish: called by the first process with output_dir, once everything has been written there.
        embeddings: of another model: `teacher_embeddings` and `document_embeddings` of the collator, and
            `eval_embeddings` of the trainer.
        plan: of negatives that are drawn anew; None: they stay.
    """
    log_precision(config)
    log_prompts(model.config)
    if replaced := replaced_sharding(config):
        logger.warning(replaced)
    exchange_dropout(model, config.device)
    trainer = make_trainer(model, tokenizer, lists, dev, config, dict(embeddings or {}), plan)
    output = Path(config.output_dir)
    if trainer.is_world_process_zero():
        write_report(output, lists, dev)
    checkpoint = last_checkpoint(output)
    if checkpoint:
        logger.info("resuming from %s", checkpoint)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.perf_counter() - started
    drop_projection(trainer.model)
    save_model(trainer, output)
    if trainer.is_world_process_zero():
        if trainer.score_scale.spreads is not None:
            record = record | {"score_scale": trainer.score_scale.spreads}
        queries = {"dev": len(dev.rows) if dev else 0, "train": len(trainer.train_sample)}
        write_record(output, record, trainer.state.log_history, queries, seconds, hardware(config.device))
        logger.info("wrote %s", output)
        if plan is not None:
            delete_negatives(output, [trainer.state.global_step])
        if publish is not None:
            publish(output)
    if config.world_size > 1:
        shut_down(trainer)


def make_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lists: RankingLists,
    dev: RankingLists | None,
    config: RankingConfig,
    embeddings: dict[str, TextEmbeddings],
    plan: RefreshPlan | None = None,
) -> DistillationTrainer:
    """Make the trainer of a model; the arguments are those of `fit`.

    Args:
        model, tokenizer: what is trained.
        lists, dev: the data.
        config: options.
        embeddings: of another model.
        plan: of negatives that are drawn anew.
    """
    eval_embeddings = embeddings.pop("eval_embeddings", None)
    collator = RankingCollator.for_model(tokenizer, lists.documents, model.config, **embeddings)
    options = {
        "model": model,
        "args": config,
        "data_collator": collator,
        "eval_dataset": dev.rows if dev else None,
        "eval_documents": dev.documents if dev else None,
        "eval_embeddings": eval_embeddings,
        "processing_class": tokenizer,
        "callbacks": [SummedCheckpoints()],
    }
    if plan is not None:
        return RefreshingTrainer(lists=lists, plan=plan, **options)
    return DistillationTrainer(train_dataset=lists.rows, **options)


def exchange_dropout(model: PreTrainedModel, device: torch.device) -> None:
    """Give a model that drops attention weights the cheaper dropout of `modeling.cpu_dropout`, on a CPU only."""
    dropped = model.config.encoder_config.to_dict().get("attention_probs_dropout_prob")
    if device.type == "cpu" and dropped:
        use_cpu_dropout(model)


def shut_down(trainer: DistillationTrainer) -> None:
    """Free the wrapped model, then the process group: the other way round gloo can hang at the end of a script."""
    trainer.accelerator.wait_for_everyone()
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()  # collects garbage too
    trainer.end()


def log_prompts(config: RankingModelConfig) -> None:
    """Log what is put before the texts of each side, if anything is."""
    if config.query_prompt or config.document_prompt:
        logger.info("queries begin with %r, documents with %r", config.query_prompt, config.document_prompt)


def log_precision(config: RankingConfig) -> None:
    """Log which number format is used, why, and on what."""
    kind = "bfloat16 autocast" if config.bf16 else "float16 autocast" if config.fp16 else "float32"
    reason = ""
    if config.precision == "auto":
        reason = ": the processor multiplies in it" if config.bf16 else ": no bf16 here"
    logger.info("training in %s%s on %s", kind, reason, hardware(config.device))


def hardware(device: torch.device) -> str:
    """Return the processor in words, for logs and cards."""
    if device.type == "cuda":
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} of {os.cpu_count()} threads"
