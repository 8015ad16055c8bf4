"""The options of commands that train. Trainer's take ten seconds to import: --help describes the usual ones."""

import sys
from dataclasses import dataclass

from m3se.run_scripts.cli.arguments import option
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.trainers.options import TRAINING, RankingOptions


HELP = {"-h", "--help"}


@dataclass
class UsualOptions:
    """The often set ones of Trainer's hundred options, with the defaults of `RankingConfig`."""

    output_dir: str | None = option("Folder for the model and its checkpoints.")
    per_device_train_batch_size: int = option("Queries of a batch, of each process.", 8)
    num_train_epochs: float = option("Passes over the lists.", 3.0)
    max_steps: int = option("Optimiser steps, in place of num_train_epochs.", -1)
    learning_rate: float = option("Initial learning rate of AdamW.", 2.8e-5)
    lr_scheduler_type: str = option("How the learning rate falls: linear, cosine, constant, polynomial ….", "linear")
    lr_scheduler_kwargs: str | None = option("More of that schedule, a mapping or JSON.")
    warmup_steps: float = option("Steps in which the learning rate rises; below 1: their share of all.", 0)
    optim: str = option("Optimiser: adamw_torch_fused, adafactor, sgd ….", "adamw_torch_fused")
    weight_decay: float = option("Weight decay of AdamW, but of biases and LayerNorms.", 0.0)
    gradient_accumulation_steps: int = option("Batches whose gradients make one step.", 1)
    logging_steps: float = option("Log after so many steps; below 1: this share of all.", 500)
    report_to: str = option("Loggers such as tensorboard or wandb; all: those installed.", "none")
    eval_strategy: str = option("When dev is measured: no, steps or epoch.", "no")
    eval_steps: float | None = option("After how many steps; below 1: a share of all (default: logging_steps).")
    per_device_eval_batch_size: int = option("Queries measured at a time.", 8)
    save_strategy: str = option("When checkpoints are written: no, steps, epoch, or best: when dev is.", "steps")
    save_steps: float = option("After how many steps; below 1: a share of all.", 500)
    save_total_limit: int | None = option("Keep so many checkpoints, and the best.")
    push_to_hub: bool = option("Publish the model at the end.", False)
    hub_model_id: str | None = option("Where: the repository, such as org/de-m3se.")
    load_best_model_at_end: bool = option("Keep the weights of the best checkpoint, not the last.", False)
    metric_for_best_model: str = option("What it is best in: nDCG@10, MRR@10 or loss, on dev.", "nDCG@10")
    seed: int = option("Of initial weights, dropout and the order of lists.", 42)
    use_cpu: bool = option("Train on the CPU though there is a GPU.", False)
    ddp_backend: str | None = option("How processes exchange gradients: gloo or nccl (default: as the device needs).")


@dataclass
class ShownOptions(RankingOptions, UsualOptions):
    """The options of a training that --help shows."""

    _argument_group_name = TRAINING


def training_parser(kinds: tuple[type, ...], description: str) -> HfArgumentParser:
    """Make the parser of a command that trains: its own options, and those of `RankingConfig`.

    Args:
        kinds: dataclasses of its own options.
        description: the text of --help.
    """
    if HELP & set(sys.argv):
        return HfArgumentParser((*kinds, ShownOptions), description=description)
    from m3se.trainers.config import RankingConfig

    return HfArgumentParser((*kinds, RankingConfig), description=description)
