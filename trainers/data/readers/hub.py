"""Data sets of the Hugging Face Hub by id, `org/name` or `org/name:config`, and folders laid out like one.

Configurations are told apart by their columns (trainers/data/hub_columns.py): documents, queries, judgments, and lists
or triples with or without teacher scores. `sentence-transformers/msmarco:bert-ensemble-margin-mse`,
`lightonai/ms-marco-en-bge` and `BeIR/scifact` (its judgments are in `BeIR/scifact-qrels`) are read like this; so are
triples of texts. Rows are streamed: documents go to the cache, nothing else is kept on disk twice.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from datasets import DatasetBuilder, get_dataset_config_names, load_dataset_builder

from m3se.trainers.data.readers.assemble import (
    Qrels,
    build_collection,
    cache_documents,
    parsed,
    read_queries,
)
from m3se.trainers.data.readers.hub_columns import (
    DOCUMENT_ID,
    GRADE,
    QUERY_ID,
    QUERY_TEXT,
    TEXT,
    Columns,
    Role,
    id_in,
    list_pairs,
    number_in,
    scored_pair,
    text_entry,
    text_row,
    triple_pairs,
)
from m3se.trainers.data.readers.pairs import Pair, collect_lists, collection_from_lists
from m3se.trainers.data.readers.source import collection_from_rows
from m3se.trainers.data.readers.trec import judge
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError, first_line


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
        return [str(name) for name in self.builder.config.data_files]

    @property
    def place(self) -> str:
        return f"{self.source}:{self.config}"

    @property
    def version(self) -> str:
        return str(self.builder.hash)

    def read(self, split: str, convert: Callable[[int, dict], T]) -> Iterator[T]:
        """`convert(number, row)` of every row of a split from the start, streamed. Documents and queries may have one
        split for all. Raises InputError naming the row where it cannot be read or converted."""
        name = self.split_name(split)
        if name is None:
            raise InputError(f"{self.place} has no split {split!r}; it has {', '.join(self.splits)}")
        for number, row in parsed(lambda: self.builder.as_streaming_dataset(name), self.place):
            try:
                converted = convert(number, row)
            except InputError as error:
                raise InputError(f"{self.place}, row {number}: {error}") from None
            yield converted

    def split_name(self, split: str) -> str | None:
        names = OTHER_NAMES.get(split, (split,))
        found = next((name for name in names if name in self.splits), None)
        shared = self.role in ("documents", "queries") and len(self.splits) == 1
        return found or (self.splits[0] if shared else None)


def read_hub(
    source: str,
    split: str,
    cache_dir: str | Path | None = None,
    qrels: Qrels | None = None,
    allow_missing: bool = False,
) -> Collection:
    """The split of a data set. `qrels` (read from a file) replaces its judgments; lists without labels take those of
    another configuration, if there are any.

    Raises InputError when the data set cannot be loaded, when its columns are not understood, when it has several
    kinds of lists and `source` names none, and as all readers do.
    """
    name, wanted = name_and_configuration(source)
    parts = parts_of(name)
    if wanted and wanted not in parts:
        raise InputError(f"{name}: no configuration {wanted!r}; it has {', '.join(parts)}")
    lists = _chosen_lists(name, parts, wanted)
    if lists and lists.role == "text rows":
        return _read_texts(lists, split, cache_dir)
    documents_part, queries_part = (_part(name, parts, role) for role in ("documents", "queries"))
    counts: Counter[str] = Counter()
    documents, dropped = cache_documents(
        name, _entries(documents_part, split, DOCUMENT_ID, TEXT), [documents_part.version], cache_dir
    )
    queries = read_queries(name, _entries(queries_part, split, QUERY_ID, (*QUERY_TEXT, *TEXT)), counts)
    report = {"source": Path(name).name if Path(name).exists() else source, "format": "Hub data set", "split": split}
    if lists is None:
        judged = qrels or _qrels(_qrels_part(name, parts), split, counts)
        return build_collection(name, documents, queries, judged, report | dropped | counts, allow_missing)
    key = [lists.config, lists.split_name(split), lists.version]
    brought = collect_lists(name, lambda: _pairs(lists, split), queries, documents, key, cache_dir, allow_missing)
    judged = qrels or brought.qrels or _own_qrels(parts, split, counts)
    report |= dropped | counts
    collection = collection_from_lists(name, documents, queries, judged, brought, report, allow_missing)
    return replace(collection, candidates_ranked=lists.role == "id lists")


def name_and_configuration(source: str) -> tuple[str, str]:
    """`org/name:config` → (org/name, config); the second is empty when none is named."""
    name, colon, config = source.rpartition(":")
    return (name, config) if colon and not Path(source).exists() else (source, "")


def parts_of(name: str) -> dict[str, Part]:
    """The configurations of a data set, by name. Raises InputError when it cannot be loaded."""
    parts: dict[str, Part] = {}
    place = name
    try:
        for config in get_dataset_config_names(name):
            place = f"{name}:{config}"
            parts[config] = _describe(name, config)
    except StopIteration:
        raise InputError(f"{place}: has no rows") from None
    except Exception as error:  # not found, offline, a data set of Python code, or files that no parser likes
        raise InputError(f"{place}: cannot be loaded as a Hub data set: {first_line(error)}") from error
    return parts


def _describe(name: str, config: str) -> Part:
    builder = load_dataset_builder(name, config)
    first_split = next(iter(builder.config.data_files))
    features = builder.info.features or next(iter(builder.as_streaming_dataset(first_split)))
    columns = Columns(list(features))
    return Part(name, config, builder, columns, columns.role(config))


def _chosen_lists(name: str, parts: dict[str, Part], wanted: str) -> Part | None:
    if wanted and parts[wanted].role in (*LISTS, "text rows"):
        return parts[wanted]
    found = [part for part in parts.values() if part.role in LISTS]
    found = found or [part for part in parts.values() if part.role == "text rows"]
    if len(found) > 1:
        names = ", ".join(part.config for part in found)
        raise InputError(f"{name}: has several kinds of lists; choose one as {name}:CONFIG of {names}")
    return found[0] if found else None


def _part(name: str, parts: dict[str, Part], role: Role) -> Part:
    found = next((part for part in parts.values() if part.role == role), None)
    if found is None:
        known = "; ".join(f"{part.config}: {', '.join(part.columns.names)}" for part in parts.values())
        raise InputError(f"{name}: no configuration with {role} (found {known})")
    return found


def _own_qrels(parts: dict[str, Part], split: str, counts: Counter[str]) -> Qrels:
    own = _first_qrels(parts)
    return _qrels(own, split, counts) if own is not None and own.split_name(split) else {}


def _first_qrels(parts: dict[str, Part]) -> Part | None:
    return next((part for part in parts.values() if part.role == "qrels"), None)


def _qrels_part(name: str, parts: dict[str, Part]) -> Part:
    own = _first_qrels(parts)
    if own is None:
        logger.info("%s: no judgments in it, looking for %s-qrels", name, name)
        own = _first_qrels(parts_of(f"{name}-qrels"))
    if own is None:
        raise InputError(f"{name}-qrels: no configuration with judgments (query-id, corpus-id, score)")
    return own


def _entries(
    part: Part, split: str, ids: tuple[str, ...], texts: tuple[str, ...]
) -> Callable[[], Iterator[tuple[int, str, str]]]:
    def entries() -> Iterator[tuple[int, str, str]]:
        return part.read(split, lambda number, row: (number, *text_entry(row, part.columns, ids, texts)))

    return entries


def _qrels(part: Part, split: str, counts: Counter[str]) -> Qrels:
    qrels: Qrels = {}
    query, document, grade = (part.columns.first(names) for names in (QUERY_ID, DOCUMENT_ID, GRADE))

    def judgment(number: int, row: dict) -> tuple[int, str, str, float]:
        # Without grades, what is listed is relevant.
        return number, id_in(row, query), id_in(row, document), number_in(row, grade) if grade else 1.0

    for number, *pair, value in part.read(split, judgment):
        judge(qrels, *pair, value, f"{part.place}, row {number}", counts)
    return qrels


def _pairs(part: Part, split: str) -> Iterator[Pair]:
    references: dict[str, str] = {}

    def pairs(_, row: dict) -> list[Pair]:
        if part.role == "id lists":
            return list_pairs(row, part.columns)
        if part.role == "id triples":
            return triple_pairs(row, part.columns, references)
        return [scored_pair(row, part.columns)]

    for some in part.read(split, pairs):
        yield from some


def _read_texts(part: Part, split: str, cache_dir: str | Path | None) -> Collection:
    name = Path(part.source).name if Path(part.source).exists() else f"{part.source}:{part.config}"
    report = {"source": name, "format": "Hub data set of texts", "split": split}
    key = [part.config, part.split_name(split), part.version]
    return collection_from_rows(
        part.source,
        lambda: part.read(split, lambda number, row: text_row(number, row, part.columns)),
        key,
        cache_dir,
        report,
    )
