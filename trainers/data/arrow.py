"""Rows into Arrow without holding them: record batches of a fixed number of rows, in memory or in a file."""

import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from itertools import islice
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features

from trainers.sums import write_sums


ROWS_PER_BATCH = 5_000


def dataset_of(rows: Iterable[dict], features: Features, path: str | Path | None = None) -> Dataset:
    """Collect `rows` as a Dataset with `features`.

    With `path` the rows are streamed to that file (an Arrow stream; it appears under its name only when complete)
    and memory-mapped from there; without it they are kept in memory in Arrow's compact form.
    """
    schema = features.arrow_schema
    batches = _record_batches(rows, schema)
    if path is None:
        return Dataset(pa.Table.from_batches(batches, schema=schema))
    return _write(batches, schema, Path(path))


def save_dataset(dataset: Dataset, path: str | Path) -> Dataset:
    """Write `dataset` to one Arrow file, which appears under its name only when complete; returns it memory-mapped."""
    tables = dataset.with_format("arrow").iter(ROWS_PER_BATCH)
    batches = (batch for table in tables for batch in table.to_batches())
    return _write(batches, dataset.features.arrow_schema, Path(path))


def read_batches(file: str | Path) -> Iterator[pa.RecordBatch]:
    """The record batches of a file that `dataset_of` or `save_dataset` wrote, read without a memory map."""
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
        yield from reader


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> Dataset:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pa.ipc.new_stream(temporary, schema) as writer:
            for batch in batches:
                writer.write_batch(batch.cast(schema))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return Dataset.from_file(str(path))


def _record_batches(rows: Iterable[dict], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = iter(rows)
    while some := list(islice(rows, ROWS_PER_BATCH)):
        yield pa.RecordBatch.from_pylist(some, schema=schema)


@contextmanager
def complete_folder(folder: str | Path, replace: bool = True) -> Iterator[Path]:
    """A new folder to fill, which takes the name `folder` only when the block succeeds.

    It replaces what had the name; with `replace` off, as for caches whose name says what they hold, the one that was
    there first stays, so that processes that prepare the same at the same time do not disturb each other. It gets the
    checksums of its files; what processes of this host left when they were killed is removed.
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
        write_sums(temporary)
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
        if process.isdecimal() and not is_alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def is_alive(process: int) -> bool:
    """Whether this host has a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # somebody else's
    return True
