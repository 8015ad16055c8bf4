import inspect
from dataclasses import fields

import pytest
import torch
from transformers import TrainingArguments

from m3se import LOSSES, InputError, RankingConfig
from m3se.trainers import config as config_module
from m3se.trainers.config import HYPERPARAMETERS
from m3se.trainers.trainer_options import NEUTRAL, REFUSED, SERVED, TRAINER_RANGES, refuse_missing_packages


def make_config(folder="/nowhere", **options):
    return RankingConfig(output_dir=str(folder), use_cpu=True, **options)


def test_defaults_are_the_papers():
    config = make_config()
    assert config.learning_rate == 2.8e-5
    assert config.optim.startswith("adamw")
    assert config.metric_for_best_model == "nDCG@10"
    assert config.greater_is_better


def test_loss_args_are_a_mapping_or_its_json():
    assert make_config(loss="m3se", loss_args={"hinge_power": 2}).loss_args == {"hinge_power": 2}
    assert make_config(loss="m3se", loss_args='{"hinge_power": 2}').loss_args == {"hinge_power": 2}


def test_no_loss_args_are_an_empty_mapping():
    assert make_config(loss_args=None).loss_args == {}


def test_every_hyperparameter_of_every_loss_is_checked():
    named = {
        parameter.name
        for loss in LOSSES.values()
        for parameter in inspect.signature(loss).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert named == HYPERPARAMETERS.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mmse"}, "loss: expected one of softmax_ce, mse, margin_mse, m3se, .*, got 'mmse'"),
        ({"loss": "mse", "loss_args": {"gamma": 1}}, "loss_args: mse has no hyperparameters, got gamma"),
        (
            {"loss": "softmax_ce", "loss_args": {"gamma": 1, "tau": 2}},
            "loss_args: softmax_ce has temperature, label_smoothing, got gamma, tau",
        ),
        ({"loss": "m3se", "loss_args": {"hinge_power": 3}}, "loss_args: hinge_power: expected 1 or 2, got 3"),
        ({"loss": "m3se", "loss_args": {"hinge_power": True}}, "hinge_power: expected 1 or 2, got True"),
        ({"loss_args": {"temperature": 0}}, "temperature: expected a number above 0, got 0"),
        # what YAML 1.1 makes of a number without a point
        (
            {"loss_args": {"teacher_temperature": "1e-1"}},
            "teacher_temperature: expected auto, auto SHARE or a number above 0, got '1e-1'",
        ),
        ({"loss": "softmax_ce", "loss_args": {"label_smoothing": 1.5}}, "label_smoothing: .* from 0 to 1, got 1.5"),
        ({"loss": "focal", "loss_args": {"gamma": -1}}, "gamma: expected a number, 0 or above, got -1"),
        ({"loss": "rankdistil_b", "loss_args": {"gamma0": float("nan")}}, "gamma0: expected a number, got nan"),
        ({"loss_args": "{temperature: 2}"}, "loss_args: expected a JSON mapping, got '{temperature: 2}'"),
        ({"loss_args": "[1]"}, "loss_args: expected a JSON mapping"),
        ({"one_hot_weight": 1.1}, "one_hot_weight: expected 0 to 1, got 1.1"),
        ({"token_dropout": -0.1}, "token_dropout: expected 0 to 1, got -0.1"),
        ({"mlm_weight": -1.0}, "mlm_weight: expected at least 0, got -1.0"),
        ({"uniform_negatives": -1}, "uniform_negatives: expected at least 0, got -1"),
        ({"sample_documents": 1}, "sample_documents: expected at least 2, got 1"),
        (
            {"sample_documents": 2, "dataloader_persistent_workers": True, "dataloader_num_workers": 1},
            "sample_documents: needs dataloader_persistent_workers false",
        ),
        ({"forward_chunk_size": 0}, "forward_chunk_size: expected at least 1, got 0"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: has no effect here; use loss softmax_ce with"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics: has no effect here"),
        ({"precision": "int8"}, "precision: expected auto, bf16, fp16 or fp32, got 'int8'"),
        ({"precision": "fp32", "bf16": True}, "precision: fp32 and bf16 contradict each other"),
        (
            {"metric_for_best_model": "ndcg"},
            "metric_for_best_model: expected one of nDCG@10, MRR@10, loss, got 'ndcg'",
        ),
        ({"early_stopping_patience": 3}, "early_stopping_patience: needs eval_strategy steps or epoch"),
        ({"early_stopping_patience": 0, "eval_strategy": "steps"}, "early_stopping_patience: expected at least 1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused_by_name(options, message):
    with pytest.raises(InputError, match=message):
        make_config(**options)


@pytest.mark.parametrize("metric", ["nDCG@10", "eval_MRR@10", "loss"])
def test_metrics_that_are_measured_are_accepted(metric):
    assert make_config(metric_for_best_model=metric).greater_is_better == (metric != "loss")


@pytest.mark.parametrize(("metric", "mode"), [("nDCG@10", "max"), ("loss", "min")])
def test_a_plateau_is_one_of_the_metric_in_its_own_direction(metric, mode):
    plateau = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "metric_for_best_model": metric}
    config = make_config(lr_scheduler_kwargs={"patience": 15}, **plateau)
    assert config.lr_scheduler_kwargs == {"mode": mode, "patience": 15}


def test_early_stopping_keeps_the_best_checkpoint():
    config = make_config(early_stopping_patience=30, eval_strategy="steps", eval_steps=10, save_steps=10)
    assert config.load_best_model_at_end


def test_one_process_uses_one_gpu(monkeypatch):
    """DataParallel would split the documents of a batch from the queries that point at them."""
    setup = TrainingArguments.__post_init__

    def with_four_gpus(self):
        setup(self)
        self._n_gpu = 4

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_four_gpus)
    assert make_config().n_gpu == 1


@pytest.mark.parametrize("processor_has_bf16", [True, False])
def test_precision_auto_is_what_the_processor_multiplies_in(processor_has_bf16, monkeypatch):
    kind = torch.bfloat16 if processor_has_bf16 else torch.float32
    monkeypatch.setattr(config_module, "autocast_dtype", lambda device: kind)
    assert make_config().bf16 == processor_has_bf16
    assert make_config(bf16=True).bf16
    assert make_config(precision="bf16").bf16
    assert not make_config(precision="fp32").bf16


def test_every_option_of_trainer_is_served_or_refused():
    names = {option.name for option in fields(TrainingArguments) if option.init}
    assert names == SERVED | NEUTRAL | REFUSED.keys()
    assert len(names) == len(SERVED) + len(NEUTRAL) + len(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_without_effect_is_refused_by_name(name):
    default = getattr(make_config(), name)
    value = {bool: lambda: not default, list: lambda: ["other"], float: lambda: 0.5}
    with pytest.raises(InputError, match=f"^{name}: has no effect here; "):
        make_config(**{name: value.get(type(default), lambda: "checkpoint")()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy: rows have no length"),
        ({"fsdp": "full_shard"}, "fsdp: shards a model over accelerators, and there is none"),
        ({"deepspeed": "ds.json"}, "deepspeed: shards a model over accelerators, and there is none"),
        ({"report_to": "wandb"}, "report_to: WandbCallback requires wandb"),
        ({"report_to": "nobody"}, "report_to: nobody is not supported"),
        ({"precision": "bf16", "bf16": False}, "precision: bf16 and bf16 contradict each other"),
        ({"precision": "fp16"}, "fp16: a CPU would train in fp32"),
        ({"fp16": True, "bf16": False}, "fp16: a CPU would train in fp32"),
        ({"max_steps": 0}, "max_steps: expected at least 1, or -1 for num_train_epochs, got 0"),
        ({"max_steps": -5}, "max_steps: expected at least 1, or -1"),
        ({"num_train_epochs": 0}, "num_train_epochs: expected a number above 0, got 0"),
        ({"save_steps": 0}, "save_steps: expected a number above 0, got 0; save_strategy no turns it off"),
        ({"logging_steps": -1}, "logging_steps: expected a number above 0"),
        ({"eval_steps": -2, "eval_strategy": "steps"}, "eval_steps: expected a number above 0"),
        ({"save_strategy": "best"}, "save_strategy: best needs eval_strategy"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type: cosine_with_min_lr .* One of min_lr"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "lr_scheduler_type: .* 'num_decay_steps'"),
        ({"lr_scheduler_kwargs": {"cycles": 2}}, "lr_scheduler_type: linear .* unexpected keyword argument 'cycles'"),
        ({"accelerator_config": "/no/such.json"}, "options of Trainer: .*'/no/such.json'"),
        ({"accelerator_config": {"batches": 1}}, "options of Trainer: .* unexpected keyword argument 'batches'"),
        ({"accelerator_config": {"dispatch_batches": True}}, "accelerator_config: dispatch_batches would part"),
        ({"lr_scheduler_kwargs": "{cycles"}, "lr_scheduler_kwargs: expected a JSON mapping, got '{cycles'"),
        ({"activation_checkpointing_kwargs": {"use": 1}}, "activation_checkpointing_kwargs: use is unknown"),
        ({"torch_compile_backend": "fast"}, "torch_compile_backend: expected one of .*inductor.*, got 'fast'"),
        ({"torch_compile_mode": "fast"}, "torch_compile_mode: expected one of default, .*, got 'fast'"),
        ({"greater_is_better": False}, "greater_is_better: False would keep the worst model by nDCG@10"),
        ({"metric_for_best_model": "loss", "greater_is_better": True}, "greater_is_better: True would keep the worst"),
        ({"ddp_backend": "smoke"}, "ddp_backend: expected one of nccl, .*, got 'smoke'"),
        ({"train_sampling_strategy": "best"}, "train_sampling_strategy: expected one of random, sequential"),
        ({"dataloader_multiprocessing_context": "spawn"}, "dataloader_multiprocessing_context: needs .* 1 or more"),
        ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers: needs dataloader_num_workers 1"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_served_is_refused_by_name(options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        make_config(**options)


def test_an_optimiser_without_its_package_is_refused():
    with pytest.raises(InputError, match="^optim: .*bitsandbytes"):
        refuse_missing_packages(make_config(optim="adamw_bnb_8bit"), torch.nn.Linear(1, 1))


@pytest.mark.parametrize("name", TRAINER_RANGES)
def test_a_number_out_of_its_range_is_refused_by_name(name):
    low, _ = TRAINER_RANGES[name]
    for value in (low - 1, float("nan")):
        with pytest.raises(InputError, match=f"^{name}: expected .*, got {value}$"):
            make_config(**{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optim_args": "foo=1"}, "optim_args: foo=1 has no effect with optim adamw_torch"),
        ({"optim_args": "foo"}, "optim: adamw_torch_fused with optim_args foo: not enough values"),
        ({"optim": "sgd", "optim_target_modules": "query"}, "optim_target_modules: has no effect with optim sgd"),
    ],
    ids=str,
)
def test_arguments_that_the_optimiser_does_not_read_are_refused(options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        refuse_missing_packages(make_config(**options), torch.nn.Linear(1, 1))


@pytest.mark.parametrize("optimiser", ["adafactor", "adagrad", "adamw_torch", "adamw_torch_fused", "rmsprop", "sgd"])
def test_optimisers_of_pytorch_and_transformers_are_served(optimiser):
    refuse_missing_packages(make_config(optim=optimiser), torch.nn.Linear(1, 1))


def test_bf16_that_was_turned_off_stays_off(monkeypatch):
    monkeypatch.setattr(config_module, "autocast_dtype", lambda device: torch.bfloat16)
    assert not make_config(bf16=False).bf16
    assert make_config().bf16


@pytest.mark.parametrize(
    "deciding",
    [
        {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps"},
        {"early_stopping_patience": 2, "eval_strategy": "steps"},
    ],
    ids=str,
)
def test_a_dev_loss_that_is_never_measured_may_not_decide(deciding):
    config = make_config(metric_for_best_model="loss", loss="m3se", **deciding)
    config.check_dev_loss(scored=True)
    with pytest.raises(InputError, match="^metric_for_best_model: expected nDCG@10 or MRR@10, got loss: m3se needs"):
        config.check_dev_loss(scored=False)
    make_config(metric_for_best_model="loss", loss="softmax_ce", **deciding).check_dev_loss(scored=False)
    make_config(metric_for_best_model="loss", loss="m3se").check_dev_loss(scored=False)
