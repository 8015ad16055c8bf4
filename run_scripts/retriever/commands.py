"""The command lines of the stages that train."""

import json

from m3se.run_scripts.retriever import gain
from m3se.run_scripts.retriever.options import QUERIES, RetrieverArguments
from m3se.run_scripts.retriever.trials import FIRST_LAYERS, MATCHED, Plan, Trial


SAMPLE = 40  # training lists that are measured beside the dev lists
MATCHING_RATE = 3e-4


def flags(**options: object) -> list[str]:
    """Write options as a command line does; those that are None are left out."""
    words = []
    for name, value in options.items():
        if isinstance(value, list):
            words += [f"--{name}", *value]
        elif value is not None:
            words += [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return words


def training_options(arguments: RetrieverArguments) -> dict:
    """Return the options that teacher and students share."""
    return {
        "encoder": arguments.encoder,
        "query_length": arguments.query_length,
        "document_length": arguments.document_length,
        "dropout": 0.0,
        "per_device_train_batch_size": arguments.batch_size,
        "per_device_eval_batch_size": 16,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "num_train_epochs": 1,
        "logging_steps": 25,
        "cache_dir": arguments.cache_dir,
        "overwrite": arguments.overwrite,
        "seed": arguments.seed,
    }


def teacher_options(arguments: RetrieverArguments) -> list[str]:
    """Return the options of train_teacher.py."""
    own = {"data": str(arguments.lists("teacher")), "loss": "softmax_ce", "learning_rate": 1e-4, "dev_queries": 0}
    own |= {"eval_strategy": "no", "save_strategy": "no", "output_dir": str(arguments.folder / "teacher")}
    return flags(**training_options(arguments) | own)


def student_options(arguments: RetrieverArguments, trial: Trial, planned: Plan, **changes: str | None) -> list[str]:
    """Return the options of distill.py for a trial, `changes` among them."""
    share = round(1 / planned.evaluations, 4)
    own = {
        "data": str(arguments.scored("train")),
        "train_rows": useful_lists(arguments, trial, planned),
        "dev_data": str(arguments.dev_lists(arguments.read(gain.GAIN)["is_judged"])),
        "dev_queries": arguments.measured_queries,
        "train_sample_size": SAMPLE,
        "eval_strategy": "steps",
        "eval_steps": share,
        "save_strategy": "steps",
        "save_steps": share,
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "early_stopping_patience": 2,
        "pooling": arguments.start_pooling,
        "embedding_dropout": 0.0,
        "start_share": arguments.start_share,
        "output_dir": str(arguments.student(trial.name)),
    }
    if arguments.layers is not None:
        own |= {"encoder": str(arguments.first_layers), "pooling": None}  # which has its own
    return flags(**training_options(arguments) | own | trial.options | changes)


def useful_lists(arguments: RetrieverArguments, trial: Trial, planned: Plan) -> int:
    """Return how many of the planned lists a trial learns from: of labels alone the judged ones, which come first."""
    if trial.options["loss"] != "softmax_ce" or arguments.pseudo_positives:
        return planned.lists
    return min(planned.lists, arguments.read(QUERIES)["train"]["judged"])


def matching_options(arguments: RetrieverArguments, planned: Plan) -> list[str]:
    """Return the options of distill.py for the encoder's first layers, which match the start's embeddings of texts."""
    own = {
        "data": str(arguments.lists("texts")),
        "layers": arguments.layers,
        "pooling": arguments.start_pooling,
        "embedding_teacher": str(arguments.start),
        "ranking_weight": 0,
        "embedding_dropout": 0.0,
        "learning_rate": MATCHING_RATE,
        "max_steps": planned.matching_steps,
        "per_device_train_batch_size": max(1, MATCHED // arguments.read(QUERIES)["texts_in_a_row"]),
        "dev_data": str(arguments.dev_lists(arguments.read(gain.GAIN)["is_judged"])),
        "dev_queries": arguments.measured_queries,
        "train_sample_size": 0,
        "eval_strategy": "steps",
        "eval_steps": 0.25,
        "save_strategy": "steps",
        "save_steps": 0.25,
        "save_total_limit": 1,
        "output_dir": str(arguments.student(FIRST_LAYERS.name)),
    }
    return flags(**training_options(arguments) | own)
