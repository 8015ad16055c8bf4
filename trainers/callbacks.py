"""Callbacks of the trainer: a check before each step, a sign at each epoch, checksums and a limit after each save."""

from copy import copy
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback

from m3se.trainers.run_folder import delete_checkpoints
from m3se.trainers.sampling import SampledRows
from m3se.trainers.storage.checksums import write_sums


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
