"""The configurations of a Hub data set, or of a folder laid out like one: their columns, splits and rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datasets import DatasetBuilder, Features, Value, get_dataset_config_names, load_dataset_builder
from datasets.packaged_modules.csv.csv import CsvConfig

from m3se.trainers.data.readers.hub_columns import Columns, Role
from m3se.trainers.data.readers.source import numbered_rows
from m3se.trainers.errors import InputError, first_line
from m3se.trainers.storage.cache import file_key


T = TypeVar("T")
OTHER_NAMES = {"dev": ("dev", "validation"), "train": ("train",), "test": ("test",)}


@dataclass
class Part:
    """A configuration of a data set: its columns, what they hold, and its splits."""

    source: str
    config: str
    builder: DatasetBuilder
    columns: Columns
    role: Role | None

    @property
    def splits(self) -> list[str]:
        """List the names of the splits."""
        return list(map(str, self.builder.config.data_files))

    @property
    def place(self) -> str:
        """Return the name of the configuration in messages."""
        return f"{self.source}:{self.config}"

    def read(self, split: str | None, convert: Callable[[int, dict], T]) -> Iterator[T]:
        """Yield `convert(number, row)` of every row of a split from the start, streamed.

        Raises:
            InputError: there is no such split, or (naming the row) a row cannot be read or converted.
        """
        name = self.split_name(split)
        if name is None:
            wanted = f"no split {split!r}; it has" if split else "several splits; name one with --split:"
            raise InputError(f"{self.place} has {wanted} {', '.join(self.splits)}")
        for number, row in numbered_rows(lambda: self.builder.as_streaming_dataset(name), self.place):
            try:
                converted = convert(number, row)
            except InputError as error:
                raise InputError(f"{self.place}, row {number}: {error}") from None
            yield converted

    def split_name(self, split: str | None) -> str | None:
        """Return the data set's own name of a split. Documents and queries may have one split for all."""
        for name in OTHER_NAMES.get(split, (split,)):
            if name in self.splits:
                return name
        is_shared = split is None or self.role in ("documents", "queries")
        return self.splits[0] if is_shared and len(self.splits) == 1 else None

    def key(self, split: str | None) -> list:
        """Return a key of the version of a split's files: a commit of the Hub's, or size and time of local ones."""
        name = self.split_name(split)
        if name is None:
            return []
        data_files = self.builder.config.data_files[name]
        versions: list = list(map(list, data_files.origin_metadata))
        paths = [Path(file.split("::")[-1]) for file in (*data_files, f"{self.source}/README.md")]  # also of archives
        local = sorted(set(filter(Path.is_file, paths)))
        return [self.config, name, list(map(str, data_files)), versions, file_key(*local)]


def split_configuration(source: str) -> tuple[str, str]:
    """Split `org/name:config` into `org/name` and `config`, which is empty when none is named."""
    name, colon, config = source.rpartition(":")
    return (name, config) if colon and not Path(source).exists() else (source, "")


def load_parts(name: str) -> dict[str, Part]:
    """Load the configurations of a data set, by name. Raises InputError when it cannot be loaded."""
    parts: dict[str, Part] = {}
    place = name
    try:
        for config in get_dataset_config_names(name):
            place = f"{name}:{config}"
            parts[config] = _load_part(name, config)
    except StopIteration:
        raise InputError(f"{place}: has no rows") from None
    except Exception as error:  # not found, offline, a data set of Python code, or files that no parser likes
        raise InputError(f"{place}: cannot be loaded as a Hub data set: {first_line(error)}") from error
    return parts


def _load_part(name: str, config: str) -> Part:
    builder = load_dataset_builder(name, config)
    first_split = next(iter(builder.config.data_files))
    if isinstance(builder.config, CsvConfig):  # text stays text: no guess that 007 is 7, and NA or null nothing
        builder.config.keep_default_na, builder.config.na_values = False, [""]
        names = _csv_columns(builder)
        builder.config.features = builder.info.features = Features(dict.fromkeys(names, Value("string")))
    features = builder.info.features or next(iter(builder.as_streaming_dataset(first_split)))
    columns = Columns(list(features))
    return Part(name, config, builder, columns, columns.role(config))


def _csv_columns(builder: DatasetBuilder) -> list[str]:
    """Return the columns of the files of a table of commas.

    Raises:
        InputError: the files have different columns, of which some would be dropped without a word, or the rows of one
            are longer than its header, so that every value would stand under the name of another.
    """
    columns: list[str] = []
    for split in builder.config.data_files:
        rows = builder.as_streaming_dataset(split)
        for file in range(rows.num_shards):
            names = list(next(iter(rows.shard(rows.num_shards, file)), columns))
            if "__index_level_0__" in names:
                raise InputError(f"{split}: the rows have more columns than the header")
            columns = columns or names
            if set(names) != set(columns):
                expected = f"expected the columns {', '.join(columns)} in every file"
                raise InputError(f"{split}: {expected}, got {', '.join(names)}")
    return columns
