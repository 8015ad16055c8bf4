"""One process at a time works in a folder."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from m3se.trainers.errors import InputError


@contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Hold `.NAME.lock` beside `folder` during the block: a file that names this process and its host.

    The operating system lets go of it when the process ends, however it ends, so a lock that a killed process left is
    taken over. Of a process on another host that cannot be told, since not every network file system passes locks on.
    Forked children do not hold it.

    Raises:
        InputError: another process holds the lock, or a host that cannot be asked left one; or the lock cannot be
            written.
    """
    folder = Path(folder).absolute()
    path = folder.with_name(f".{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = taken(path, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def taken(path: Path, folder: Path) -> TextIO:
    """The lock file, locked and with our name in it."""
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  closed by the caller: closing lets go
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = holder_in(file)
            file.close()
            raise InputError(f"{folder}: {words(holder)} is writing there; wait for it, or stop it") from None
        if same_file(file, path):
            break
        file.close()  # its holder has removed it meanwhile
    holder = holder_in(file)
    if holder.get("host", socket.gethostname()) != socket.gethostname():
        file.close()
        raise InputError(f"{folder}: {words(holder)} was writing there; if it is gone, delete {path}")
    file.truncate(0)
    started = datetime.now().isoformat(sep=" ", timespec="seconds")
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": started}, file)
    file.flush()
    return file


def holder_in(file: TextIO) -> dict:
    """What the lock file says of its holder; empty when it does not say it, or not yet."""
    file.seek(0)
    try:
        return dict(json.load(file))
    except (TypeError, ValueError):
        return {}


def words(holder: dict) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')},"


def same_file(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
