"""Environments of their own for peers that need other versions of packages than this project does."""

import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

from m3se.trainers.errors import InputError
from m3se.trainers.storage.atomic import write_text


# The two extras of sentence-transformers cannot be installed together. optimum-onnx needs transformers below 5, which
# sentence-transformers 6 does not work with.
PACKAGES = {
    "openvino": ("sentence-transformers[openvino]>=6,<7", "nncf", "datasets"),
    "onnx": ("sentence-transformers[onnx]>=5.1,<6", "fastembed>=0.8"),
}
DONE = "installed.txt"  # written last


def peer_python(name: str, folder: Path) -> Path:
    """Return the Python that has the packages of a peer; this one for "torch".

    Others get a virtual environment in `folder`, with the version of torch that is installed here. It is made once.

    Raises:
        InputError: pip cannot install them.
    """
    if name == "torch":
        return Path(sys.executable)
    environment = folder / f"peer-{name}"
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = [f"torch=={version('torch').split('+')[0]}", *PACKAGES[name]]
    done = environment / DONE
    if not done.exists() or done.read_text(encoding="utf-8").split("\n") != wanted:
        shutil.rmtree(environment, ignore_errors=True)
        venv.create(environment)
        install(python, wanted)
        write_text(done, "\n".join(wanted))
    return python


def install(python: Path, packages: list[str]) -> None:
    """Install packages for another Python. Raises InputError with pip's last word when it cannot."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-input", "--quiet", *packages]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"--peers: pip cannot install {', '.join(packages)}: {reason}")
