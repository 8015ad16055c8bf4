"""Every core of this machine for the processes of a launch, where a launcher has left them one thread each.

`accelerate launch` and `torchrun` set OMP_NUM_THREADS to 1 unless the user chose a number. Both are seen in the
launcher itself: in the environment that it was started with, and in its command line.
"""

import os
import sys

import psutil


THREADS = "OMP_NUM_THREADS"
LAUNCHERS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")  # set by accelerate launch, by torchrun
CHOICES = ("--num_cpu_threads", "--num-cpu-threads")  # accelerate takes beginnings of an option for the option


def use_all_cores() -> None:
    """Share the cores among the processes of this machine, unless the user has chosen a number of threads."""
    if not os.environ.keys().isdisjoint(LAUNCHERS) and not threads_chosen():
        threads = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        os.environ[THREADS] = str(threads)  # for libraries that are loaded later
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)


def threads_chosen() -> bool:
    """Return true when the user told the launcher how many threads to use, or the launcher cannot be asked."""
    try:
        launcher = psutil.Process(os.getppid())
        return THREADS in launcher.environ() or any(word.startswith(CHOICES) for word in launcher.cmdline())
    except psutil.Error:
        return True


def available_cores() -> int:
    """Count the cores that this process may run on, each once however many threads it has."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # Windows, macOS
        allowed = os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)
