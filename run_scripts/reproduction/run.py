"""Jobs as processes, one per device or some on the cores: a log of what each says, a record of how long it took."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from m3se.run_scripts.cli.threads import THREADS, available_cores
from m3se.run_scripts.reproduction.jobs import Job
from m3se.trainers.storage.atomic import write_json


logger = logging.getLogger(__name__)

SCRIPTS = Path(__file__).parents[1]
POLL_SECONDS = 0.5
# Threads that wait by spinning take the processor from the one they wait for as soon as anything else runs.
PASSIVE = {"OMP_WAIT_POLICY": "passive"}


class Running:
    """A job's process, on some GPUs or with its share of the cores."""

    def __init__(self, job: Job, output: Path, devices: list[int], processes: int, environment: dict | None = None):
        self.job = job
        self.devices = devices
        self.record = output / "records" / f"{job.name}.json"
        self.log = output / "logs" / f"{job.name}.log"
        self.started = time.time()
        recipe = output / "recipes" / f"{job.name}.yaml"
        for file in (self.record, self.log, recipe):
            file.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(yaml.safe_dump(divided(job.options, processes), sort_keys=False), encoding="utf-8")
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*launcher(job, processes), str(SCRIPTS / job.script), "--recipe", str(recipe)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=PASSIVE | (environment or {}) | os.environ | visible(devices),
            )

    def finished(self) -> bool:
        """Decide whether the process has ended; if it ended well, record its time."""
        if self.process.poll() is None:
            return False
        if self.process.returncode == 0 and self.job.done:
            write_json(self.record, {"seconds": round(time.time() - self.started, 1), "options": self.job.options})
        return True

    def stop(self) -> None:
        """Interrupt the process, and kill it when it has not ended after a minute."""
        if sys.platform == "win32":  # which has no interrupt for one process
            self.process.terminate()
        else:
            self.process.send_signal(signal.SIGINT)  # the scripts keep what they have
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def launcher(job: Job, processes: int) -> list[str]:
    """Choose Python, or accelerate with several processes for what can use them."""
    if processes == 1 or job.script in ("evaluate.py", "diagnose.py"):
        return [sys.executable]
    return [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]


def divided(options: dict, processes: int) -> dict:
    """Share out the batch, so that a step has as many queries on several processes as on one."""
    size = options.get("per_device_train_batch_size")
    return options if size is None else options | {"per_device_train_batch_size": max(1, size // processes)}


def visible(devices: list[int]) -> dict[str, str]:
    """Return the environment in which a process sees only these GPUs."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices))} if devices else {}


def shared_cores(runs: int) -> dict[str, str]:
    """Return the environment in which a process uses its share of the cores; a user's own number goes before it."""
    return {} if runs == 1 else {THREADS: str(max(1, available_cores() // runs))}


def run_all(plan: Callable[[], list[Job]], output: Path, gpus: int, processes: int, cpu_runs: int = 1) -> list[str]:
    """Run the jobs of `plan` until none is ready; return the names of those that failed.

    It is planned anew after each job, since results decide what is wanted next. Jobs that need a failed one are left
    out.

    Args:
        plan: lists the jobs, those that are done among them.
        output: gets their logs and records.
        gpus: how many there are; 0: the CPU.
        processes: of a job, with a GPU each.
        cpu_runs: without a GPU, how many jobs share the cores.
    """
    free = [list(range(first, first + processes)) for first in range(0, gpus, processes)] or [[]] * cpu_runs
    environment = {} if gpus else shared_cores(cpu_runs)
    running: list[Running] = []
    failed: list[str] = []
    try:
        while True:
            begun = {process.job.name for process in running}.union(failed)
            waiting = [job for job in plan() if job.ready and job.name not in begun]
            while free and waiting:
                running.append(Running(waiting.pop(0), output, free.pop(), processes, environment))
                logger.info("%s %s", time.strftime("%H:%M:%S"), running[-1].job.name)
            if not running:
                return failed
            while not (ended := [process for process in running if process.finished()]):
                time.sleep(POLL_SECONDS)
            for process in ended:
                running.remove(process)
                free.append(process.devices)
                if not process.job.done or process.process.returncode:
                    failed.append(process.job.name)
                    logger.error("%s failed (%s):\n%s", process.job.name, process.log, last_lines(process.log))
    finally:
        for process in running:
            process.stop()


def last_lines(log: Path, count: int = 5) -> str:
    """Read the end of a log; what overwrote itself on a line is a line each."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()[-count:])


def timed(output: Path) -> dict[str, dict]:
    """Read the records of jobs that ended, by name."""
    records = {}
    for file in (output / "records").glob("*.json"):
        records[file.stem] = json.loads(file.read_text(encoding="utf-8"))
    return records
