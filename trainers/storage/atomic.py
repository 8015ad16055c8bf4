"""Files and folders that are complete or absent."""

import json
import os
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from tempfile import TemporaryFile

import psutil

from m3se.trainers.errors import InputError
from m3se.trainers.storage.checksums import write_sums


@contextmanager
def complete_file(path: str | Path) -> Iterator[Path]:
    """Yield a new path to write to, which takes the name `path` (replacing what had it) only when the block succeeds.

    Remains of it from processes of this host that were killed are removed.
    """
    path = Path(path)
    start = f".{socket.gethostname()}."
    for remains in path.parent.glob(f"{escape(start)}*.{escape(path.name)}"):
        process = remains.name.removeprefix(start).removesuffix(f".{path.name}")
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            remains.unlink(missing_ok=True)
    temporary = path.with_name(f"{start}{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed write says why, not where
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def complete_folder(folder: str | Path, replace: bool = True, without_sums: Collection[str] = ()) -> Iterator[Path]:
    """Yield a new folder to fill, which takes the name `folder` only when the block succeeds.

    It replaces what had the name; with `replace` off, as for caches whose name says what they hold, the one that was
    there first stays, so that processes that prepare the same at the same time do not disturb each other. It gets the
    checksums of its files, but for those named in `without_sums`; what processes of this host left when they were
    killed is removed.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    own = f".{folder.name}.{socket.gethostname()}.{os.getpid()}"
    temporary, replaced = folder.with_name(own), folder.with_name(f"{own}.replaced")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        write_sums(temporary, leave_out=without_sums)
        if replace and folder.exists():
            os.replace(folder, replaced)
        try:
            os.replace(temporary, folder)
        except OSError:
            if replace or not folder.exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    start = f".{folder.name}.{socket.gethostname()}."
    for path in folder.parent.glob(f"{escape(start)}*"):
        process = path.name.removeprefix(start).removesuffix(".replaced")
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def refuse_unwritable(folder: Path) -> None:
    """Raise InputError, before any work, when no file could be written in `folder` or it could not be made."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        TemporaryFile(dir=above).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text, complete or not at all."""
    with complete_file(path) as file:
        file.write_text(text, encoding="utf-8")


def write_json(path: Path, value: dict) -> None:
    """Write a mapping as indented JSON, complete or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
