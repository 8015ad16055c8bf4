"""The processes of one launch (`accelerate launch`, `torchrun`) that work apart and wait for each other."""

import os
from datetime import timedelta

from accelerate import PartialState

from m3se.trainers.devices import default_device


LONGEST_WAIT = timedelta(days=30)  # the first to finish its share waits for the last


def connect_processes() -> PartialState:
    """Connect this process with the others of its launch; without a launcher it is the only one.

    They wait for each other over gloo, also between GPUs: nothing but "I am here" is sent, and a process that is gone
    is noticed at once.
    """
    options = {"backend": "gloo"} if int(os.environ.get("WORLD_SIZE", "1")) > 1 else {}
    return PartialState(cpu=default_device().type == "cpu", timeout=LONGEST_WAIT, **options)
