"""What train_teacher.py and distill.py share: dev lists, resume, and the record of a run."""

import json
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from m3se.modeling.cpu_dropout import use_cpu_dropout
from m3se.trainers.backbones import encoder_key
from m3se.trainers.collators import RankingCollator
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import BM25Index, RankingLists, candidate_lists, read_data
from m3se.trainers.data.schema import hash_subset
from m3se.trainers.distillation_trainer import DistillationTrainer
from m3se.trainers.errors import InputError
from m3se.trainers.losses import NEEDS_TEACHER
from m3se.trainers.run_folder import SummedCheckpoints, last_checkpoint
from m3se.trainers.storage.atomic import write_json
from m3se.trainers.storage.checksums import damage, write_sums
from m3se.trainers.storage.lock import exclusive


logger = logging.getLogger(__name__)

KEY = "run_key.json"  # written first: what the folder is trained from and how
RECORD = "training.json"  # written last: a folder without it is not a finished run
# Options that change what is logged or kept, never the weights.
NO_INFLUENCE = {"output_dir", "run_name", "disable_tqdm", "report_to", "dataloader_num_workers", "save_total_limit"}
HYPERPARAMETERS = (
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "one_hot_weight",
    "sample_documents",
    "in_batch_negatives",
    "uniform_negatives",
    "token_dropout",
    "mlm_weight",
    "precision",
    "seed",
)
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "peft", "m3se")


@dataclass
class DevArguments:
    _argument_group_name = "dev queries, measured while training"

    dev_data: str | None = field(
        default=None, metadata={"help": "Where the dev split is read: pydocs, a folder or Hub id (default: --data)."}
    )
    dev_queries: int = field(default=200, metadata={"help": "Dev queries, the first by hash of their id; 0: no dev."})
    dev_depth: int = field(default=20, metadata={"help": "BM25 candidates of a dev query."})
    allow_missing: bool = field(default=False, metadata={"help": "Drop and count what names unknown documents."})
    cache_dir: str = field(default="outputs/cache", metadata={"help": "Where prepared collections and indexes go."})


def dev_lists(data: str, arguments: DevArguments, eval_strategy: str) -> RankingLists | None:
    """BM25 candidates of the dev queries, as a re-ranker meets them; None without any."""
    if arguments.dev_queries == 0:
        if eval_strategy != "no":
            raise InputError(f"dev_queries is 0, but eval_strategy {eval_strategy} measures dev; set it to no")
        return None
    cache = Path(arguments.cache_dir)
    collection = read_data(arguments.dev_data or data, "dev", cache_dir=cache, allow_missing=arguments.allow_missing)
    collection = collection.only(hash_subset(collection.queries, arguments.dev_queries))
    index = BM25Index.build(collection.documents, cache_dir=cache)
    return candidate_lists(collection, index, arguments.dev_depth)


@dataclass
class RunArguments:
    _argument_group_name = "run"

    overwrite: bool = field(
        default=False, metadata={"help": "Replace what output_dir holds when it was trained from something else."}
    )


def alone(config: RankingConfig) -> AbstractContextManager[None]:
    """The first process of the launch lets no other launch into output_dir; raises InputError naming who is there."""
    return exclusive(config.output_dir) if config.process_index == 0 else nullcontext()


def fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lists: RankingLists,
    dev: RankingLists | None,
    config: RankingConfig,
    record: dict,
    publisher: Callable[[Path], object] | None = None,
) -> None:
    """Train, resuming from the last checkpoint if there is one, and write the model and its record to output_dir."""
    log_precision(config)
    dropped = model.config.encoder_config.to_dict().get("attention_probs_dropout_prob")
    if config.device.type == "cpu" and dropped:
        use_cpu_dropout(model)
    collator = RankingCollator(tokenizer, lists.documents, model.config.query_length, model.config.document_length)
    trainer = DistillationTrainer(
        model=model,
        args=config,
        data_collator=collator,
        train_dataset=lists.rows,
        eval_dataset=dev.rows if dev else None,
        eval_documents=dev.documents if dev else None,
        processing_class=tokenizer,
        publisher=publisher,
    )
    trainer.add_callback(SummedCheckpoints())
    output = Path(config.output_dir)
    if trainer.is_world_process_zero():  # what was read and left out, by reason
        write_json(output / "data_report.json", {"train": lists.report, "dev": dev.report if dev else None})
    last = last_checkpoint(output)
    if last:
        logger.info("resuming from %s", last)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=last)
    record |= {
        "seconds": round(time.perf_counter() - started, 1),
        "log_history": trainer.state.log_history,
        "evaluated_on": {"dev": len(dev.rows) if dev else 0, "train": len(trainer.train_sample)},  # queries
        "hardware": hardware(config.device),
        "versions": {name: version(name) for name in PACKAGES},
    }
    save_model(trainer, output)
    if trainer.is_world_process_zero():
        write_json(output / RECORD, record)
        logger.info("wrote %s", output)
    if publisher is not None:
        trainer.push_to_hub()
    if config.world_size > 1:
        shut_down(trainer)


def shut_down(trainer: DistillationTrainer) -> None:
    """Free the wrapped model, then the process group: the other way round gloo can hang at the end of a script."""
    trainer.accelerator.wait_for_everyone()
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()  # collects garbage too
    trainer.end()


def save_model(trainer: DistillationTrainer, output: Path) -> None:
    """Save beside the target and move in, config.json last: a folder that has it has all the rest.

    Of a model with an adapter the merged weights are saved, which every script reads, and the adapter in `adapter/`.
    """
    unfinished = output / ".saving"
    model = trainer.accelerator.unwrap_model(trainer.model)
    reset_truncation(trainer.processing_class)
    trainer.save_model(str(unfinished / "adapter" if isinstance(model, PeftModel) else unfinished))
    if not trainer.is_world_process_zero():
        return
    if isinstance(model, PeftModel):
        model.merge_and_unload().save_pretrained(unfinished)
        trainer.processing_class.save_pretrained(unfinished)
        shutil.rmtree(output / "adapter", ignore_errors=True)
    for pickled in unfinished.rglob("training_args.bin"):  # training.json says the same
        pickled.unlink()
    write_sums(unfinished)
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == "config.json"):
        os.replace(path, output / path.name)
    unfinished.rmdir()


def reset_truncation(tokenizer: PreTrainedTokenizerBase) -> None:
    """A fast tokeniser would save the padding and truncation of its last call, which a resumed run may not make."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()


def already_done(config: RankingConfig, key: dict, overwrite: bool) -> bool:
    """Whether output_dir holds the finished run of this key; otherwise make it ready for one.

    Raises:
        InputError: `overwrite` is off, and the folder holds the run of another key, or a model that was damaged.
    """
    output = Path(config.output_dir)
    if (output / KEY).is_file():
        held = json.loads((output / KEY).read_text(encoding="utf-8"))
        done = held == key and (output / RECORD).is_file()
        obstacle = damaged(output) if done else changed(held, key)
        if obstacle is None:
            if done:
                logger.info("%s: nothing has changed since it was trained; reused", output)
            return done
        if not overwrite:
            raise InputError(f"{output} {obstacle}; give another --output_dir, or --overwrite true")
        logger.info("%s %s; trained anew", output, obstacle)
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / KEY, key)
    return False


def damaged(output: Path) -> str | None:
    """In words, which file of a finished run is not what was written; None if all are."""
    found = damage(output)
    return found and f"is damaged: {found}"


def changed(held: dict, key: dict) -> str | None:
    """In words, how the key of a folder differs from the one wanted; None if it does not."""
    names = ", ".join(name for name in key if held.get(name) != key[name]) or "options"
    return None if held == key else f"holds a run with another {names}"


def seed(config: RankingConfig) -> None:
    """Before a model is built: its new layers are then the same in every process and every run."""
    set_seed(config.seed)


def describe(config: RankingConfig, arguments: list, lists: RankingLists) -> dict:
    """The record of a run before it starts: what the card says about its data and hyperparameters."""
    options = {k: v for part in arguments for k, v in asdict(part).items()}
    source = lists.report.get("collection", {}).get("source", options["data"])
    teachers = [Path(teacher["name"]).name for teacher in lists.report.get("teachers", [])]
    return {
        "loss": config.loss,
        "loss_args": config.loss_args,
        "teacher": ", ".join(teachers) or None if config.loss in NEEDS_TEACHER else None,
        "seed": config.seed,
        "recipe": recipe_name(sys.argv[1:]),
        "options": options,
        "hyperparameters": {name: getattr(config, name) for name in HYPERPARAMETERS},
        "data": {
            "name": Path(source).name,
            "queries": len(lists.rows),
            "documents": len(lists.documents),
            "documents_per_query": max(map(len, lists.rows["labels"])),
        },
        "world_size": config.world_size,
    }


def recipe_name(argv: list[str]) -> str | None:
    """The recipe on a command line, as folder/file; None if there is none."""
    return "/".join(Path(argv[1]).parts[-2:]) if argv[:1] == ["--recipe"] and len(argv) > 1 else None


def run_key(config: RankingConfig, arguments: list, encoder: str, data: dict[str, RankingLists | None]) -> dict:
    """Everything that the weights of a run depend on, as plain values."""
    options = {
        option.name: getattr(config, option.name)
        for option in fields(RankingConfig)
        if option.init and option.name not in NO_INFLUENCE and not option.name.startswith(("logging_", "hub_"))
    }
    options = {name: value for name, value in options.items() if isinstance(value, (str, int, float, bool, dict))}
    return {
        "encoder": encoder_key(encoder),
        **{name: lists_key(lists) for name, lists in data.items() if lists is not None},
        "options": json.loads(json.dumps(options | {k: v for part in arguments for k, v in asdict(part).items()})),
    }


def lists_key(lists: RankingLists) -> str:
    """A hash of all rows and of the document table."""
    digest = blake2b(lists.documents.fingerprint.encode(), digest_size=16)
    for rows in lists.rows.with_format(None).iter(1000):
        digest.update(json.dumps(rows).encode())
    return digest.hexdigest()


def log_precision(config: RankingConfig) -> None:
    """Log which number format is used and why."""
    kind = "bfloat16 autocast" if config.bf16 else "float16 autocast" if config.fp16 else "float32"
    reason = (
        "" if config.precision != "auto" else ": the processor multiplies in it" if config.bf16 else ": no bf16 here"
    )
    logger.info("training in %s%s on %s", kind, reason, hardware(config.device))


def hardware(device: torch.device) -> str:
    """The processor in words, for logs and cards."""
    if device.type == "cuda":
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
