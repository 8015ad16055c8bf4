"""One process at a time works in a folder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from m3se.trainers.errors import InputError


@contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Hold `.NAME.lock` beside `folder` during the block, and say in `.NAME.holder` which process of which host does.

    The operating system lets go of the lock when the process ends, however it ends: a lock that a killed process left
    is taken over. Not every network file system passes locks on to other hosts, so that what another host left is
    never taken for stale. Forked children do not hold the lock.

    Raises:
        InputError: another process holds the lock, or another host left one; or the lock cannot be written; or
            `folder` is a file.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder to write to, got a file")
    path, note = folder.with_name(f".{folder.name}.lock"), folder.with_name(f".{folder.name}.holder")
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        holder = describe_holder(read_holder(note))
        raise InputError(f"{folder}: {holder} is writing there; wait for it, or stop it") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        holder = read_holder(note)
        if holder.get("host", socket.gethostname()) != socket.gethostname():
            raise InputError(f"{folder}: {describe_holder(holder)} was writing there; if it is gone, delete {note}")
        started = datetime.now().isoformat(sep=" ", timespec="seconds")
        note.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": started}))
        try:
            yield
        finally:
            note.unlink(missing_ok=True)
    finally:
        with suppress(PermissionError):  # Windows removes it when it is let go of
            path.unlink(missing_ok=True)
        lock.release()


def read_holder(note: Path) -> dict:
    """Read what the file says of the holder; empty when it does not say it, or not yet."""
    try:
        return dict(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}


def describe_holder(holder: dict) -> str:
    """Name the holder in words."""
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')},"
