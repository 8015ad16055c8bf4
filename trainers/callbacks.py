"""Callbacks of the trainer: around a step, at the beginning of an epoch, after a checkpoint, and at the end."""

import logging
from copy import copy
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.func import functional_call
from transformers import EarlyStoppingCallback, PreTrainedModel, Trainer, TrainerCallback

from m3se.trainers.run_folder import checkpoints, delete_checkpoints
from m3se.trainers.sampling import SampledRows
from m3se.trainers.storage.checksums import write_sums


logger = logging.getLogger(__name__)

AVERAGE = "averaged_weights.safetensors"  # in a checkpoint


class FiniteGradients(TrainerCallback):
    """A check that raises FloatingPointError before a step whose gradient is not finite.

    Such a step would leave no weight as it was. Under float16 it is usual: the gradient scaler leaves the step out and
    scales down, so that nothing is checked.
    """

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
        """Raise FloatingPointError where the norm of all gradients is not finite."""
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        if not args.fp16 and not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise FloatingPointError(
                f"the gradient is not finite at step {state.global_step}; no step was made with it"
            )


class AveragedWeights(TrainerCallback):
    """A model's own weights, averaged over the steps (EMA), as a teacher (Tarvainen & Valpola, 2017).

    After each step the average becomes decay * average + (1 - decay) * weights. It begins with the weights before the
    first step. Checkpoints have it, so that a resumed run goes on with the same.

    Args:
        model: the student, not wrapped for several processes.
        decay: share of the average that stays.
    """

    def __init__(self, model: PreTrainedModel, decay: float):
        self.model, self.decay = model, decay
        self.weights: dict[str, Tensor] = {}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Begin with the student's weights, or with the average of the checkpoint that the run goes on from."""
        self.weights = {}
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:
                self.weights[name] = weight.detach().clone()
        if state.global_step:
            saved = load_file(Path(args.output_dir) / f"checkpoint-{state.global_step}" / AVERAGE)
            for name, weight in self.weights.items():
                weight.copy_(saved[name])

    @torch.no_grad()
    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Move the average towards the new weights."""
        weights = dict(self.model.named_parameters())
        for name, average in self.weights.items():
            average.lerp_(weights[name].detach(), 1 - self.decay)

    def save(self, checkpoint: str) -> None:
        """Write the average into the folder of a checkpoint."""
        save_file(self.weights, Path(checkpoint) / AVERAGE)

    @torch.no_grad()
    def score(self, inputs: dict[str, Tensor]) -> Tensor:
        """Score a batch with the averaged weights, without dropout: [B, K] float32, NaN where there is no document."""
        self.model.eval()
        scores = functional_call(self.model, self.weights, args=(), kwargs=inputs).scores.float()
        self.model.train()
        return scores.masked_fill(scores == -torch.inf, torch.nan)


class CheckpointMean(TrainerCallback):
    """The mean of the weights of a training's last checkpoints as its result (Vaswani et al., 2017, section 6.1).

    Args:
        trainer: gets the mean in place of its weights once it has trained, and measures it.
        count: how many checkpoints.
    """

    def __init__(self, trainer: Trainer, count: int):
        self.trainer, self.count = trainer, count

    @torch.no_grad()
    def on_train_end(self, args, state, control, model=None, **kwargs) -> None:
        """Put the mean in the place of the last weights. Every process reads the checkpoints."""
        args.distributed_state.wait_for_everyone()
        saved = checkpoints(Path(args.output_dir))
        steps = sorted(step for step in saved if step <= state.global_step)[-self.count :]
        if len(steps) < self.count:
            logger.warning("average_checkpoints: %s are wanted, and %s there", self.count, len(steps))
        means: dict[str, Tensor] = {}
        for number, step in enumerate(steps, start=1):
            self.trainer._load_from_checkpoint(str(saved[step]))
            for name, weight in model.named_parameters():
                means.setdefault(name, weight.float().clone()).lerp_(weight.float(), 1 / number)
        for name, mean in means.items():
            model.get_parameter(name).copy_(mean)
        logger.info("the weights are the mean of the checkpoints of steps %s", ", ".join(map(str, steps)))
        if self.trainer.eval_dataset is not None:
            self.trainer.evaluate()


class StartShare(TrainerCallback):
    """A share of the start's weights in a training's result (WiSE-FT, Wortsman et al., 2022).

    A learned scale of scores stays as it was trained: the start's was never fitted to a teacher.

    Args:
        trainer: is measured once more with them; its model is at the start now.
        share: s in s · start + (1 − s) · trained.
    """

    def __init__(self, trainer: Trainer, share: float):
        self.trainer, self.share = trainer, share
        self.start: dict[str, Tensor] = {}
        for name, weight in trainer.model.named_parameters():
            if "score_scale" not in name.split("."):
                self.start[name] = weight.detach().cpu().clone()

    @torch.no_grad()
    def on_train_end(self, args, state, control, model=None, **kwargs) -> None:
        """Move the last weights, or the best ones where those were loaded, towards the start's."""
        for name, start in self.start.items():
            weight = model.get_parameter(name)
            weight.lerp_(start.to(weight.device), self.share)
        logger.info("%s of the weights is the start's", format(self.share, ".0%"))
        if self.trainer.eval_dataset is not None:
            self.trainer.evaluate()


class NewEpoch(TrainerCallback):
    """A sign to sampled rows which epoch begins, before the loader copies them into its worker processes."""

    def __init__(self, rows: SampledRows):
        self.rows = rows

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        """Set the number of the epoch; a run that is resumed inside an epoch begins with a fraction."""
        self.rows.epoch = int(state.epoch or 0)


class SummedCheckpoints(TrainerCallback):
    """Checksums of the files of every checkpoint, by which `last_checkpoint` tells a damaged one."""

    def on_save(self, args, state, control, **kwargs) -> None:
        """Write the checksums once each process has written the state of its own random numbers."""
        args.distributed_state.wait_for_everyone()
        if state.is_world_process_zero:
            write_sums(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def add_callbacks(trainer: Trainer) -> None:
    """Add the callbacks that a trainer's options ask for."""
    trainer.add_callback(FiniteGradients())
    if trainer.args.average_checkpoints is not None:
        trainer.add_callback(CheckpointMean(trainer, trainer.args.average_checkpoints))
    if trainer.args.start_share:
        trainer.add_callback(StartShare(trainer, trainer.args.start_share))
    limit_checkpoints(trainer)
    if trainer.args.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(trainer.args.early_stopping_patience))


def limit_checkpoints(trainer: Trainer) -> None:
    """Let a callback serve the trainer's `save_total_limit`, if it has one, in place of Trainer itself."""
    if trainer.args.save_total_limit is not None:
        trainer.add_callback(LimitedCheckpoints(trainer.args.save_total_limit))
        trainer.args = copy(trainer.args)
        trainer.args.save_total_limit = None


class LimitedCheckpoints(TrainerCallback):
    """A limit to the number of checkpoints.

    Trainer's own counts every folder whose name begins with `checkpoint-`, and deletes what somebody has put there.
    """

    def __init__(self, limit: int):
        self.limit = limit

    def on_save(self, args, state, control, **kwargs) -> None:
        """Delete the oldest checkpoints, once the new one is complete."""
        if args.should_save:
            delete_checkpoints(Path(args.output_dir), self.limit, state.best_model_checkpoint)
