"""The folder of a training: its key is written first, checkpoints while it goes on, the model and its record last."""

import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from hashlib import blake2b, file_digest
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from peft import PeftModel
from transformers import AutoConfig, PreTrainedTokenizerBase, Trainer

from m3se.trainers.config import RankingConfig
from m3se.trainers.data import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.losses import NEEDS_TEACHER
from m3se.trainers.models.inspection import check_saved
from m3se.trainers.storage.atomic import write_json
from m3se.trainers.storage.checksums import find_damage, write_sums
from m3se.trainers.storage.query_hashes import write_query_hashes


logger = logging.getLogger(__name__)

KEY = "run_key.json"  # what the folder is trained from and how
RECORD = "training.json"  # a folder without it is not a finished run
REPORT = "data_report.json"
CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
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
    "ranking_weight",
    "embedding_weight",
    "ema_decay",
    "average_checkpoints",
    "start_share",
    "score_scale",
    "sample_documents",
    "in_batch_negatives",
    "uniform_negatives",
    "token_dropout",
    "mlm_weight",
    "precision",
    "seed",
)
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "peft", "m3se")


def run_key(config: RankingConfig, arguments: Sequence, encoder: Path | str, data: dict[str, RankingLists]) -> dict:
    """Collect everything that the weights of a run depend on, as plain values.

    Args:
        config: the options of the training; those without influence on the weights are left out.
        arguments: dataclasses of further options.
        encoder: folder or Hub id of the encoder that training starts from.
        data: lists by a name, such as the training and the dev lists.
    """
    options = {}
    for option in fields(RankingConfig):
        logged = option.name.startswith(("logging_", "hub_"))
        value = getattr(config, option.name) if option.init else None
        if option.name not in NO_INFLUENCE and not logged and isinstance(value, (str, int, float, bool, dict)):
            options[option.name] = value
    return {
        "encoder": encoder_key(encoder),
        **dict(zip(data, map(lists_key, data.values()), strict=True)),
        "options": json.loads(json.dumps(options | all_options(arguments))),
    }


def all_options(arguments: Sequence) -> dict:
    """Return the fields of several dataclasses as one mapping."""
    options = {}
    for part in arguments:
        options |= asdict(part)
    return options


def encoder_key(encoder: Path | str) -> str:
    """Hash the files of a local model, or name a Hub id with its commit."""
    path = Path(encoder)
    if not path.is_dir():
        return f"{encoder}@{AutoConfig.from_pretrained(encoder)._commit_hash}"
    digest = blake2b(digest_size=16)
    # weights; config, tokenizer and the pooling of sentence-transformers
    patterns = ("*.safetensors", "*.json", "*/config.json", "*.txt", "*.model")
    for file in sorted(chain.from_iterable(map(path.glob, patterns))):
        with open(file, "rb") as content:
            digest.update(file_digest(content, blake2b).digest())
    return digest.hexdigest()


def lists_key(lists: RankingLists) -> str:
    """Hash all rows and the document table."""
    digest = blake2b(lists.documents.fingerprint.encode(), digest_size=16)
    for rows in lists.rows.with_format(None).iter(1000):
        digest.update(json.dumps(rows).encode())
    return digest.hexdigest()


def already_done(config: RankingConfig, key: dict, overwrite: bool) -> bool:
    """Return true when output_dir holds the finished run of this key; otherwise make it ready for one.

    Raises:
        InputError: `overwrite` is off, and the folder holds the run of another key, or a model that was damaged.
    """
    output = Path(config.output_dir)
    if (output / KEY).is_file():
        old_key = json.loads((output / KEY).read_text(encoding="utf-8"))
        # an option that has come since was left out then
        old_key["options"] = dict.fromkeys(key["options"]) | old_key.get("options", {})
        done = old_key == key and (output / RECORD).is_file()
        obstacle = describe_damage(output) if done else describe_change(old_key, key)
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


def describe_damage(output: Path) -> str | None:
    """Say which file of a finished run is not what was written; None if all are."""
    reason = find_damage(output)
    return reason and f"is damaged: {reason}"


def describe_change(old_key: dict, key: dict) -> str | None:
    """Say how the key of a folder differs from the one wanted; None if it does not."""
    if old_key == key:
        return None
    changes = [f"another {name}" for name in key if name != "options" and old_key.get(name) != key[name]]
    old_options, options = old_key["options"], key["options"]
    for name in sorted(old_options.keys() | options.keys()):
        if old_options.get(name) != options.get(name):
            changes.append(f"{name} {old_options.get(name)!r} in place of {options.get(name)!r}")
    return f"holds a run with {', '.join(changes) or 'other options'}"


def checkpoints(output: Path) -> dict[int, Path]:
    """Find the checkpoints of a training by their step.

    Other folders, such as a copy that somebody made under another name, are left out.
    """
    steps = {}
    for path in output.glob("checkpoint-*"):
        if name := CHECKPOINT.fullmatch(path.name):
            steps[int(name[1])] = path
    return steps


def delete_checkpoints(output: Path, limit: int, best: str | None) -> None:
    """Delete the oldest checkpoints.

    Args:
        output: the run's folder.
        limit: how many stay; the latest always does.
        best: folder of the best one, which stays too and is counted.
    """
    steps = checkpoints(output)
    *earlier, latest = sorted(steps)
    protected = {latest}
    if best is not None:
        protected |= {step for step, path in steps.items() if path.name == Path(best).name}
    surplus = len(steps) - max(limit, len(protected))
    deletable = [step for step in earlier if step not in protected]
    for step in deletable[: max(surplus, 0)]:
        shutil.rmtree(steps[step], ignore_errors=True)


def last_checkpoint(output: Path) -> str | None:
    """Find the latest checkpoint that was written to its end and is as it was written; None if there is none.

    Trainer writes trainer_state.json last: one that does not parse belongs to a checkpoint that a kill cut short.
    """
    steps = checkpoints(output)
    for step in sorted(steps, reverse=True):
        try:
            json.loads((steps[step] / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            logger.warning("%s is incomplete; not used", steps[step])
            continue
        reason = find_damage(steps[step])
        if not reason:
            return str(steps[step])
        logger.warning("%s: %s; not used", steps[step], reason)
    return None


def save_model(trainer: Trainer, output: Path) -> None:
    """Save beside the target and move in, config.json last: a folder that has it has all the rest.

    Of a model with an adapter the merged weights are saved, which every command reads, and the adapter in `adapter/`.
    """
    unfinished = output / ".saving"
    model = trainer.accelerator.unwrap_model(trainer.model)
    reset_truncation(trainer.processing_class)
    trainer.save_model(str(unfinished / "adapter" if isinstance(model, PeftModel) else unfinished))
    if not trainer.is_world_process_zero():
        return
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
        model.save_pretrained(unfinished)
        trainer.processing_class.save_pretrained(unfinished)
        shutil.rmtree(output / "adapter", ignore_errors=True)
    for pickled in unfinished.rglob("training_args.bin"):  # training.json says the same
        pickled.unlink()
    check_saved(unfinished, model, trainer.processing_class)
    write_sums(unfinished)
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == "config.json"):
        os.replace(path, output / path.name)
    unfinished.rmdir()


def reset_truncation(tokenizer: PreTrainedTokenizerBase) -> None:
    """Forget the padding and truncation of the last call, which a fast tokeniser would save.

    A resumed run may not make that call.
    """
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()


def write_report(output: Path, lists: RankingLists, dev: RankingLists | None) -> None:
    """Write what was read and left out of the data, by reason, as data_report.json, and hashes of the queries."""
    write_query_hashes(output, lists.rows["query"])
    write_json(output / REPORT, {"train": lists.report, "dev": dev.report if dev else None})


def start_record(config: RankingConfig, arguments: Sequence, lists: RankingLists) -> dict:
    """Return the record of a run before it starts: what the card says about its data and hyperparameters."""
    options = all_options(arguments)
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
    """Return the recipe of a command line as folder/file; None if there is none."""
    return "/".join(Path(argv[1]).parts[-2:]) if argv[:1] == ["--recipe"] and len(argv) > 1 else None


def write_record(
    output: Path, record: dict, log_history: list[dict], queries: dict[str, int], seconds: float, hardware: str
) -> None:
    """Complete the record of a run and write it as training.json, after which the run counts as finished.

    Args:
        output: the run's folder.
        record: what `start_record` returned.
        log_history: Trainer's logs.
        queries: how many queries of "dev" and "train" each evaluation measured.
        seconds: how long training took.
        hardware: what it ran on, in words.
    """
    versions = {name: version(name) for name in PACKAGES}
    measured = {"seconds": round(seconds, 1), "log_history": log_history, "evaluated_on": queries}
    write_json(output / RECORD, record | measured | {"hardware": hardware, "versions": versions})
