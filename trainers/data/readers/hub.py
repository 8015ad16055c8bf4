"""Data sets of the Hugging Face Hub by id, `org/name` or `org/name:config`, and folders laid out like one.

Configurations are told apart by their columns (hub_columns.py): documents, queries, judgments, and lists or triples
with or without teacher scores. `sentence-transformers/msmarco:bert-ensemble-margin-mse`, `lightonai/ms-marco-en-bge`
and `BeIR/scifact` (its judgments are in `BeIR/scifact-qrels`) are read like this; so are triples of texts. Rows are
streamed: documents go to the cache, nothing else is kept on disk twice.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from datasets import DatasetBuilder, Features, Value, get_dataset_config_names, load_dataset_builder
from datasets.packaged_modules.csv.csv import CsvConfig

from m3se.trainers.data.readers.hub_columns import (
    DOCUMENT_ID,
    GRADE,
    QUERY_ID,
    QUERY_TEXT,
    TEXT,
    Columns,
    Role,
    list_pairs,
    read_id,
    read_number,
    scored_pair,
    text_entry,
    text_row,
    triple_pairs,
)
from m3se.trainers.data.readers.source import (
    Entry,
    Pair,
    Qrels,
    Source,
    Stream,
    numbered_rows,
    read_queries,
    source_from_rows,
)
from m3se.trainers.data.readers.trec import judge
from m3se.trainers.errors import InputError, first_line
from m3se.trainers.storage.cache import file_key


logger = logging.getLogger(__name__)

T = TypeVar("T")
LISTS: tuple[Role, ...] = ("id lists", "id triples", "id pairs")
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


def read_hub(source: str, split: str | None) -> Source:
    """Describe a split of a data set. Lists without labels take the judgments of another configuration, if any.

    Raises:
        InputError: the data set cannot be loaded, its columns are not understood, or it has several kinds of lists and
            `source` names none.
    """
    name, config = split_configuration(source)
    parts = load_parts(name)
    if config and config not in parts:
        raise InputError(f"{name}: no configuration {config!r}; it has {', '.join(parts)}")
    for part in parts.values():
        if part.role is None and len(parts) > 1:
            logger.warning(
                "%s: not read, its columns are not understood: %s", part.place, ", ".join(part.columns.names)
            )
    lists = _choose_lists(name, parts, config)
    short_name = Path(name).name if Path(name).exists() else source
    if lists and lists.role == "text rows":
        return _texts_source(lists, split)
    documents = _part(name, parts, "documents")

    def queries(counts: Counter[str]) -> dict[str, str]:
        """Read the queries of their configuration."""
        part = _part(name, parts, "queries")
        return read_queries(name, lambda: _entries(part, split, QUERY_ID, (*QUERY_TEXT, *TEXT)), counts)

    def qrels(counts: Counter[str]) -> Qrels:
        """Read the judgments, of another data set where this one has none; lists may do without."""
        part = _first(parts, "qrels")
        if lists is not None and (part is None or part.split_name(split) is None):
            return {}
        return _qrels(part or _qrels_elsewhere(name), split, counts)

    return Source(
        short_name,
        "Hub data set",
        Stream(name, documents.key(split), lambda: _entries(documents, split, DOCUMENT_ID, TEXT)),
        queries,
        qrels,
        pairs=Stream(name, lists.key(split), lambda: _pairs(lists, split)) if lists else None,
        ranked=lists is not None and lists.role == "id lists",
        split=split,
    )


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


def _choose_lists(name: str, parts: dict[str, Part], config: str) -> Part | None:
    if config and parts[config].role in (*LISTS, "text rows"):
        return parts[config]
    candidates = _with_role(parts, *LISTS) or _with_role(parts, "text rows")
    if len(candidates) > 1:
        names = ", ".join(candidates)
        raise InputError(f"{name}: has several kinds of lists; choose one as {name}:CONFIG of {names}")
    return next(iter(candidates.values()), None)


def _with_role(parts: dict[str, Part], *roles: Role) -> dict[str, Part]:
    """Select the configurations that hold one of these."""
    return {config: part for config, part in parts.items() if part.role in roles}


def _first(parts: dict[str, Part], role: Role) -> Part | None:
    return next(iter(_with_role(parts, role).values()), None)


def _part(name: str, parts: dict[str, Part], role: Role) -> Part:
    if part := _first(parts, role):
        return part
    columns = "; ".join(f"{part.config}: {', '.join(part.columns.names)}" for part in parts.values())
    raise InputError(f"{name}: no configuration with {role} (found {columns})")


def _qrels_elsewhere(name: str) -> Part:
    """Find the judgments that BEIR's data sets have in a second data set."""
    logger.info("%s: no judgments in it, looking for %s-qrels", name, name)
    part = _first(load_parts(f"{name}-qrels"), "qrels")
    if part is None:
        raise InputError(f"{name}-qrels: no configuration with judgments (query-id, corpus-id, score)")
    return part


def _entries(part: Part, split: str | None, ids: tuple[str, ...], texts: tuple[str, ...]) -> Iterator[Entry]:
    part.columns.refuse_lists(part.place)
    return part.read(split, lambda number, row: (number, *text_entry(row, part.columns, ids, texts)))


def _qrels(part: Part, split: str | None, counts: Counter[str]) -> Qrels:
    qrels: Qrels = {}
    query, document, grade = map(part.columns.first, (QUERY_ID, DOCUMENT_ID, GRADE))

    def convert(number: int, row: dict) -> tuple[int, str, str, float]:
        """Return number, ids and grade of a row; without grades, all that is listed is relevant."""
        value = read_number(row, grade) if grade else 1.0
        if value % 1:
            raise InputError(
                f"expected a whole number as the grade {grade}, got {value:g}; teacher scores are read from a "
                "configuration that has mse in its name"
            )
        return number, read_id(row, query), read_id(row, document), value

    for number, *pair, value in part.read(split, convert):
        judge(qrels, *pair, value, f"{part.place}, row {number}", counts)
    return qrels


def _pairs(part: Part, split: str | None) -> Iterator[Pair]:
    references: dict[str, str] = {}

    def convert(number: int, row: dict) -> list[Pair]:
        """Return the pairs of a row."""
        if part.role == "id lists":
            return list_pairs(row, part.columns)
        if part.role == "id triples":
            return triple_pairs(row, part.columns, references)
        return [scored_pair(row, part.columns)]

    part.columns.refuse_lists(part.place)
    for pairs in part.read(split, convert):
        yield from pairs


def _texts_source(part: Part, split: str | None) -> Source:
    part.columns.refuse_lists(part.place)
    if unread := part.columns.unread():
        logger.warning("%s: columns that are not read: %s", part.place, ", ".join(unread))
    name = Path(part.source).name if Path(part.source).exists() else part.place

    def rows() -> Iterator:
        """Yield the rows of the split."""
        return part.read(split, lambda number, row: text_row(number, row, part.columns))

    source = source_from_rows(part.source, "Hub data set of texts", part.key(split), rows)
    return replace(source, name=name, split=split)
