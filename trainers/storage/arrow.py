"""Rows into Arrow without holding them: record batches of a fixed number of rows, in memory or in a file."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features

from m3se.trainers.storage.atomic import complete_file


ROWS_PER_BATCH = 5_000


def write_rows(rows: Iterable[dict], features: Features, path: str | Path | None = None) -> Dataset:
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
    return _write(dataset_batches(dataset), dataset.features.arrow_schema, Path(path))


def dataset_batches(dataset: Dataset) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Dataset as record batches of any size."""
    for table in dataset.with_format("arrow").iter(ROWS_PER_BATCH):
        yield from table.to_batches()


def read_batches(file: str | Path) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a file that `write_rows` or `save_dataset` wrote, read without a memory map."""
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
        yield from reader


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> Dataset:
    path.parent.mkdir(parents=True, exist_ok=True)
    with complete_file(path) as temporary, pa.ipc.new_stream(temporary, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))
    return Dataset.from_file(str(path))


def _record_batches(rows: Iterable[dict], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = iter(rows)
    while batch := list(islice(rows, ROWS_PER_BATCH)):
        yield pa.RecordBatch.from_pylist(batch, schema=schema)
