"""The processes of one launch (`accelerate launch`, `torchrun`) that work apart and wait for each other."""

import os
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from m3se.trainers.errors import InputError


POLL_SECONDS = 0.1
LONGEST_WAIT = timedelta(days=30)  # the first to finish its share waits for the last


class Processes:
    """Rank and number of the processes, from the launcher's environment; 0 and 1 without a launcher.

    Only gloo is used, also between GPUs: nothing but "I am here" is sent.
    """

    def __init__(self):
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.world_size > 1 else 0
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if self.world_size > 1:
            dist.init_process_group("gloo", timeout=LONGEST_WAIT)

    def wait(self) -> None:
        """Return when every process is here. A barrier would too, but keeps signals out until it ends.

        Raises InputError when another process of the launch is gone.
        """
        if self.world_size == 1:
            return
        try:
            barrier = dist.barrier(async_op=True)
            while not barrier.is_completed():
                time.sleep(POLL_SECONDS)
            barrier.wait()
        except RuntimeError as error:
            raise InputError("another process of this launch ended early; run the same again to go on") from error

    def end(self) -> None:
        """Part from the others; to be called by every process after a `wait`."""
        if self.world_size > 1:
            dist.destroy_process_group()
