"""The options of transformers' Trainer: those that are served here, and those that are refused by name.

Every field of `TrainingArguments` stands in one of the tables. A field that a new version of transformers adds is in
none, and a test says so.
"""

import importlib.util
import inspect
import math
import multiprocessing
import os
from copy import copy
from dataclasses import MISSING

import torch
from accelerate.utils import DynamoBackend
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from m3se.trainers.errors import InputError


MANY_STEPS = 1_000_000  # of a training whose length is not known yet
PREPARED = {"params", "model", "optimizer_dict"}  # keywords of optimisers that take the model itself
# Options that do what Trainer's documentation says.
SERVED_NAMES = """
output_dir per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type
lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon
optim_target_modules gradient_accumulation_steps max_grad_norm bf16 fp16 bf16_full_eval fp16_full_eval tf32
activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs
torch_compile torch_compile_backend torch_compile_mode neftune_noise_alpha torch_empty_cache_steps
auto_find_batch_size logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter
log_level log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id
trackio_static_space_id eval_strategy eval_steps eval_delay per_device_eval_batch_size eval_on_start
eval_accumulation_steps save_strategy save_steps save_total_limit push_to_hub hub_private_repo hub_model_id
hub_revision load_best_model_at_end metric_for_best_model greater_is_better ignore_data_skip
restore_callback_states_from_checkpoint full_determinism seed data_seed use_cpu accelerator_config
dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers
dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order train_sampling_strategy
ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp
fsdp_config deepspeed debug skip_memory_metrics
"""
SERVED = set(SERVED_NAMES.split())
# Lowest and highest values of Trainer's numbers. Trainer itself takes others, and fails late or trains nothing.
TRAINER_RANGES = {
    "per_device_train_batch_size": (1, math.inf),
    "per_device_eval_batch_size": (1, math.inf),
    "gradient_accumulation_steps": (1, math.inf),
    "eval_accumulation_steps": (1, math.inf),
    "eval_delay": (0, math.inf),
    "save_total_limit": (1, math.inf),
    "learning_rate": (0, math.inf),
    "weight_decay": (0, math.inf),
    "max_grad_norm": (0, math.inf),
    "adam_beta1": (0, 1),
    "adam_beta2": (0, 1),
    "adam_epsilon": (0, math.inf),
    "neftune_noise_alpha": (0, math.inf),
    "seed": (0, 2**32 - 1),  # numpy's seeds
    "data_seed": (0, 2**32 - 1),
    "dataloader_num_workers": (0, math.inf),
    "dataloader_prefetch_factor": (1, math.inf),
    "ddp_timeout": (1, math.inf),
}
# Options whose value Trainer looks at when the data are read, and those that there are.
CHOICES = {
    "train_sampling_strategy": ("random", "sequential"),
    "dataloader_multiprocessing_context": multiprocessing.get_all_start_methods(),
    "ddp_backend": ("nccl", "gloo", "mpi", "xccl", "hccl", "cncl", "mccl"),
    "torch_compile_backend": [name.lower() for name in DynamoBackend.__members__],
    "torch_compile_mode": ("default", "lite", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
}
# Options that are mappings, or their JSON on the command line.
MAPPINGS = (
    "accelerator_config",
    "activation_checkpointing_kwargs",
    "fsdp_config",
    "gradient_checkpointing_kwargs",
    "lr_scheduler_kwargs",
)
# Options that launchers of older versions pass, without effect in Trainer too.
NEUTRAL = {"local_rank"}
# Options that would do nothing here, or harm, and what to use instead; their defaults are accepted.
REFUSED = {
    "label_smoothing_factor": "use loss softmax_ce with loss_args label_smoothing",
    "average_tokens_across_devices": "a loss is a mean over queries, not tokens",
    "use_liger_kernel": "its kernels replace parts of language models only",
    "liger_kernel_config": "its kernels replace parts of language models only",
    "use_cache": "an encoder reads every text once",
    "include_num_input_tokens_seen": "the log has documents_per_second and padding",
    "prediction_loss_only": "metrics are measured query by query anyway",
    "eval_do_concat_batches": "metrics are measured query by query anyway",
    "eval_use_gather_object": "metrics are measured query by query anyway",
    "include_for_metrics": "metrics are measured query by query anyway",
    "batch_eval_metrics": "metrics are measured query by query anyway",
    "save_only_model": "a run that was stopped could not go on from it; save_strategy no keeps no checkpoint",
    "save_on_each_node": "the first process writes; give all nodes one output_dir, or copy it",
    "enable_jit_checkpoint": "a training that SIGTERM ends goes on from its last checkpoint; lower save_steps",
    "hub_token": "set HF_TOKEN or log in with `hf auth login`: everybody can read the arguments of a process",
    "hub_strategy": "the model is published once, at the end",
    "hub_always_push": "the model is published once, at the end",
    "parallelism_config": "every process has a copy of the model; `accelerate launch` starts several",
    "remove_unused_columns": "the collator reads the text columns",
    "label_names": "the collator calls them labels",
    "length_column_name": "rows have no length before they are tokenised",
    "do_train": "the command decides what is done",
    "do_eval": "use eval_strategy",
    "do_predict": "evaluate.py measures a trained model",
    "resume_from_checkpoint": "run the same command again: it goes on from the last checkpoint in output_dir",
}


def refuse_options(config: TrainingArguments) -> None:
    """Raise InputError for an option that would do nothing here; to be called before Trainer's own checks."""
    for name, instead in REFUSED.items():
        option = config.__dataclass_fields__[name]
        default = option.default_factory() if option.default is MISSING else option.default
        accepted = (default, False) if default == "no" else (default,)  # a command line reads no as false
        if getattr(config, name) not in accepted:
            raise InputError(f"{name}: has no effect here; {instead}")
    if config.train_sampling_strategy == "group_by_length":
        raise InputError("train_sampling_strategy: rows have no length before they are tokenised; use random")
    for name, choices in CHOICES.items():
        value = getattr(config, name)
        if value is not None and value.lower() not in choices:
            raise InputError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    for name in ("dataloader_multiprocessing_context", "dataloader_persistent_workers", "dataloader_prefetch_factor"):
        if getattr(config, name) and not config.dataloader_num_workers:
            raise InputError(f"{name}: needs dataloader_num_workers 1 or more")
    refuse_no_steps(config)
    for name in ("fsdp", "deepspeed"):
        if getattr(config, name) and (config.use_cpu or not torch.accelerator.is_available()):
            raise InputError(f"{name}: shards a model over accelerators, and there is none; leave the option out")
    if config.deepspeed and importlib.util.find_spec("deepspeed") is None:
        raise InputError("deepspeed: needs the package of that name: pip install deepspeed")


def refuse_mappings(config: TrainingArguments) -> None:
    """Raise InputError for entries that Trainer's mappings do not have, or that break batches."""
    keywords = set(inspect.signature(checkpoint).parameters)
    unknown = (config.activation_checkpointing_kwargs or {}).keys() - keywords
    if unknown:
        raise InputError(f"activation_checkpointing_kwargs: {', '.join(sorted(unknown))} is unknown to PyTorch")
    if config.accelerator_config.dispatch_batches:
        raise InputError("accelerator_config: dispatch_batches would part the documents of a batch from its queries")


def refuse_no_steps(config: TrainingArguments) -> None:
    """Raise InputError for a training without a step, or one that logs, measures or saves at no step."""
    if config.max_steps == 0 or config.max_steps < -1:
        raise InputError(f"max_steps: expected at least 1, or -1 for num_train_epochs, got {config.max_steps}")
    if config.max_steps == -1 and not 0 < config.num_train_epochs < math.inf:
        raise InputError(f"num_train_epochs: expected a number above 0, got {config.num_train_epochs}")
    for kind in ("logging", "eval", "save"):
        steps = getattr(config, f"{kind}_steps")
        if getattr(config, f"{kind}_strategy") == "steps" and steps is not None and not steps > 0:
            raise InputError(f"{kind}_steps: expected a number above 0, got {steps}; {kind}_strategy no turns it off")


def refuse_missing_packages(config: TrainingArguments, model: PreTrainedModel | None = None) -> None:
    """Raise InputError when a logger, or the optimiser of a model, needs a package that is not installed."""
    try:
        for callback in get_reporting_integration_callbacks(config.report_to):
            callback()
    except (ImportError, RuntimeError, ValueError) as error:
        raise InputError(f"report_to: {error}") from None
    if model is None:
        return
    try:
        optimizer, options = Trainer.get_optimizer_cls_and_kwargs(config, model)
        plain = issubclass(optimizer, torch.optim.Optimizer) and not PREPARED & options.keys()
        if plain:
            optimizer([torch.nn.Parameter(torch.zeros(1))], **options)
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"optim: {config.optim.value} with optim_args {config.optim_args}: {error}") from None
    if plain:
        refuse_unread(config, model, options)


def refuse_unread(config: TrainingArguments, model: PreTrainedModel, options: dict) -> None:
    """Raise InputError for arguments of an optimiser that Trainer does not pass on to it.

    Args:
        config: options of the training.
        model: what is trained.
        options: keywords that the optimiser gets.
    """
    if config.optim_target_modules:
        raise InputError(f"optim_target_modules: has no effect with optim {config.optim.value}")
    plain = copy(config)
    plain.optim_args = None
    if config.optim_args and Trainer.get_optimizer_cls_and_kwargs(plain, model)[1] == options:
        raise InputError(f"optim_args: {config.optim_args} has no effect with optim {config.optim.value}")


def refuse_schedule(config: TrainingArguments) -> None:
    """Raise InputError for a schedule of the learning rate that lacks arguments, or has unknown ones."""
    steps = config.max_steps if config.max_steps > 0 else MANY_STEPS
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    warmup = config.get_warmup_steps(steps)
    try:
        get_scheduler(config.lr_scheduler_type, optimizer, warmup, steps, config.lr_scheduler_kwargs)
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(
            f"lr_scheduler_type: {config.lr_scheduler_type.value} with lr_scheduler_kwargs "
            f"{config.lr_scheduler_kwargs}: {error}"
        ) from None


def replaced_sharding(config: TrainingArguments) -> str | None:
    """Say that accelerate's configuration asks for sharding that a CPU does not have; None if it does not.

    accelerate itself replaces it by plain data parallelism without a word.
    """
    for name in ("FSDP", "DEEPSPEED"):
        if config.device.type == "cpu" and os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            return (
                f"accelerate's configuration asks for {name}, which a CPU does not have: every process has all weights"
            )
    return None


def refuse_sharding(option: str, config: TrainingArguments) -> None:
    """Raise InputError for an option that needs the whole model in every process, where its weights are divided."""
    for name in ("fsdp", "deepspeed"):
        launched = os.environ.get(f"ACCELERATE_USE_{name.upper()}", "false").lower() == "true"
        if getattr(config, name) or (launched and config.device.type != "cpu"):
            raise InputError(f"{option}: needs the whole model in every process, and {name} divides its weights")
