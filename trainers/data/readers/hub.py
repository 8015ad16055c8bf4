"""Data sets of the Hugging Face Hub by id, `org/name` or `org/name:config`, and folders laid out like one.

Configurations are told apart by their columns (hub_columns.py): documents, queries, judgments, and lists or triples
with or without teacher scores. `sentence-transformers/msmarco:bert-ensemble-margin-mse`, `lightonai/ms-marco-en-bge`
and `BeIR/scifact` (its judgments are in `BeIR/scifact-qrels`) are read like this; so are triples of texts. Rows are
streamed: documents go to the cache, nothing else is kept on disk twice.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from m3se.trainers.data.readers.hub_columns import (
    DOCUMENT_ID,
    GRADE,
    QUERY_ID,
    QUERY_TEXT,
    TEXT,
    Role,
    list_pairs,
    read_id,
    read_number,
    scored_pair,
    text_entry,
    text_row,
    triple_pairs,
)
from m3se.trainers.data.readers.hub_parts import Part, load_parts, split_configuration
from m3se.trainers.data.readers.source import (
    Entry,
    Pair,
    Qrels,
    Source,
    Stream,
    read_queries,
    source_from_rows,
)
from m3se.trainers.data.readers.trec import judge
from m3se.trainers.errors import InputError


logger = logging.getLogger(__name__)

LISTS: tuple[Role, ...] = ("id lists", "id triples", "id pairs")


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

    judgments = JudgedSplits(name, parts)
    return Source(
        short_name,
        "Hub data set",
        Stream(name, documents.key(split), lambda: _entries(documents, split, DOCUMENT_ID, TEXT)),
        queries,
        qrels,
        pairs=Stream(name, lists.key(split), lambda: _pairs(lists, split)) if lists else None,
        ranked=lists is not None and lists.role == "id lists",
        split=split,
        judges=judgments.judges,
        judged=judgments.judged,
    )


class JudgedSplits:
    """The splits of a data set's judgments, of which a folder may have none."""

    def __init__(self, name: str, parts: dict[str, Part]):
        self._name, self._parts = name, parts

    def judges(self, split: str | None) -> bool:
        """Tell whether a split has judgments (None: any)."""
        part = self._part
        return part is not None and (split is None or part.split_name(split) is not None)

    def judged(self) -> set[str]:
        """Return the ids of the queries that any split judges."""
        part = self._part
        judged: set[str] = set()
        for split in part.splits if part is not None else ():
            judged |= _qrels(part, split, Counter()).keys()
        return judged

    @cached_property
    def _part(self) -> Part | None:
        part = _first(self._parts, "qrels")
        return part if part is not None or Path(self._name).exists() else _qrels_elsewhere(self._name)


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
