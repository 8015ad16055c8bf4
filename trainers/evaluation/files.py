"""Files that are complete or absent."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from tempfile import TemporaryFile

from trainers.data.arrow import is_alive
from trainers.errors import InputError


@contextmanager
def complete_file(path: str | Path) -> Iterator[Path]:
    """A new path to write to; the file takes the name `path` (replacing what had it) only when the block succeeds.

    What processes of this host left of it when they were killed is removed.
    """
    path = Path(path)
    start = f".{socket.gethostname()}."
    for left in path.parent.glob(f"{escape(start)}*.{escape(path.name)}"):
        process = left.name.removeprefix(start).removesuffix(f".{path.name}")
        if process.isdecimal() and not is_alive(int(process)):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f"{start}{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed write says why, not where
        raise
    finally:
        temporary.unlink(missing_ok=True)


def refuse_unwritable(folder: Path) -> None:
    """Raise InputError, before any work, when no file could be written in `folder` or it could not be made."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        TemporaryFile(dir=above).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    with complete_file(path) as file:
        file.write_text(text, encoding="utf-8")
