"""Checkpoints of a training that is going on: complete, checked, and found again."""

import json
import logging
from pathlib import Path

from transformers import TrainerCallback

from m3se.trainers.storage.checksums import damage, write_sums


logger = logging.getLogger(__name__)


class SummedCheckpoints(TrainerCallback):
    """Every checkpoint gets the checksums of its files."""

    def on_save(self, args, state, control, **kwargs) -> None:
        args.distributed_state.wait_for_everyone()  # each process writes the state of its own random numbers
        if state.is_world_process_zero:
            write_sums(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def last_checkpoint(output: Path) -> str | None:
    """The latest checkpoint that was written to its end and is as it was written, None if there is none.

    Trainer writes trainer_state.json last: one that does not parse belongs to a checkpoint that a kill cut short.
    """
    steps = {int(path.name.removeprefix("checkpoint-")): path for path in output.glob("checkpoint-*")}
    for step in sorted(steps, reverse=True):
        try:
            json.loads((steps[step] / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            logger.warning("%s is incomplete; not used", steps[step])
            continue
        found = damage(steps[step])
        if not found:
            return str(steps[step])
        logger.warning("%s: %s; not used", steps[step], found)
    return None
