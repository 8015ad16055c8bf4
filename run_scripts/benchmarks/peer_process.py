"""A peer in a process of its own, which works whenever it is called: it and ours take turns in one benchmark."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import finalize

import numpy as np
import torch

from m3se.trainers.errors import InputError


WORKER = Path(__file__).with_name("peer_worker.py")


class PeerProcess:
    """A process of `peer_worker.py`. Calling it lets it do its work once; it ends with this object.

    Attributes:
        setting: the batch size that it chose.

    Args:
        python: the Python that has the peer's packages.
        job: what `peer_worker.py` reads, less the texts and the number of threads.
        texts: texts, or pairs of texts.

    Raises:
        InputError: the peer cannot be set up.
    """

    def __init__(self, python: Path, job: dict, texts: list):
        self.name = f"{job['library']}, {job['backend']}"
        self.folder = TemporaryDirectory()
        file = Path(self.folder.name) / "texts.json"
        file.write_text(json.dumps(texts), encoding="utf-8")
        job = job | {"texts": str(file), "threads": torch.get_num_threads()}
        command = [str(python), "-I", str(WORKER), json.dumps(job)]  # isolated: our modules' names are not theirs
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)
        self.end = finalize(self, stop, self.process)
        self.setting = self.answer()["setting"]

    def __call__(self) -> list[float]:
        """Let the peer work once; return the seconds of each part."""
        return self.ask("go")["seconds"]

    def values(self) -> np.ndarray:
        """Return the embeddings [N, H] or scores [N] of its last work."""
        file = Path(self.folder.name) / "values.npy"
        self.ask(f"save {file}")
        return np.load(file)

    def peak(self) -> int:
        """Return the bytes by which its memory has grown at most since its libraries were imported."""
        return self.ask("peak")["bytes"]

    def ask(self, line: str) -> dict:
        """Send a line and return the answer. Raises InputError when the peer has ended."""
        with suppress(BrokenPipeError):  # the missing answer tells
            print(line, file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict:
        """Read the next answer. Raises InputError when the peer has ended."""
        line = self.process.stdout.readline()
        if not line:
            raise InputError(f"--peers: {self.name} has ended with code {self.process.wait()}; its messages are above")
        return json.loads(line)


def stop(process: subprocess.Popen) -> None:
    """End a process, and wait until it has."""
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
