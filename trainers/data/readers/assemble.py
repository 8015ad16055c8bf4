"""What all readers share: documents streamed to the cache once, and the checks that make a collection of the parts.

Nothing is dropped in silence: reports count what was left out by reason.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
from datasets import Dataset

from m3se.trainers.data.documents import DOCUMENT_FEATURES, DocumentTable, RepeatedId, surplus_rows
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError, first_line, preview, shorten
from m3se.trainers.storage.arrow import save_dataset, write_rows
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import reusable


logger = logging.getLogger(__name__)

Entries = Callable[[], Iterator[tuple[int, str, str]]]  # (line or row number, id, text), from the start at each call
Qrels = dict[str, dict[str, float]]
Row = TypeVar("Row")


def cache_root(cache_dir: str | Path | None) -> Path:
    """Where prepared data is kept: `cache_dir`, or `~/.cache/m3se`."""
    return Path(cache_dir) if cache_dir else Path.home() / ".cache" / "m3se"


def file_key(*files: Path) -> list:
    """What tells one version of files from another without reading them."""
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def cache_documents(source: str | Path, entries: Entries, key: list, cache_dir: str | Path | None) -> tuple:
    """(document table, counts) of `entries`, streamed to the cache, or opened there if it was prepared under `key`.

    Raises InputError when there is no document, when an id is empty, or when one stands for two texts (naming both
    lines of `source`).
    """
    name = blake2b(json.dumps(["documents", str(source), key]).encode(), digest_size=8).hexdigest()
    folder = cache_root(cache_dir) / f"documents-{name}"
    if reusable(folder):
        logger.info("%s: reusing the documents in %s", source, folder)
    else:
        with complete_folder(folder, replace=False) as new:
            counts = _write(source, entries, new)
            (new / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
    return DocumentTable.load(folder), json.loads((folder / "counts.json").read_text(encoding="utf-8"))


def _write(source: str | Path, entries: Entries, folder: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()

    def rows() -> Iterator[dict]:
        for number, document, text in entries():
            if not document:
                raise InputError(f"{source}, line {number}: the document's id is empty")
            counts["documents_without_text"] += not text
            yield {"id": document, "text": text}

    file = folder / "table.arrow"
    if len(write_rows(rows(), DOCUMENT_FEATURES, file)) == 0:
        raise InputError(f"{source}: no documents")
    table = DocumentTable.unchecked(file)
    try:
        surplus = surplus_rows(table)
    except RepeatedId as repeated:
        raise InputError(_two_texts(source, entries, str(repeated))) from None
    if surplus:
        counts["documents_dropped_as_repeated"] = len(surplus)
        rows_read = Dataset.from_file(str(file))
        save_dataset(rows_read.select(np.setdiff1d(np.arange(len(rows_read)), surplus)), file)
        table = DocumentTable.unchecked(file)
    table.write_index_into(folder)
    return {reason: count for reason, count in counts.items() if count}


def _two_texts(source: str | Path, entries: Entries, repeated: str, what: str = "document") -> str:
    places: dict[str, int] = {}
    for number, name, text in entries():
        if name == repeated:
            places.setdefault(text, number)
    (one, first), (two, second) = list(places.items())[:2]
    return (
        f"{source}: {what} {shorten(repeated)} is {shorten(one)} on line {first} and {shorten(two)} on line {second}"
    )


def parsed(rows: Callable[[], Iterable[Row]], source: str) -> Iterator[tuple[int, Row]]:
    """(number, row) of what another library reads from `source`, numbered from 1.

    Raises InputError in place of whatever that library raises, naming `source` and the row before.
    """
    number = 0
    try:
        for number, row in enumerate(rows(), start=1):  # noqa: B007  the number is for the message
            yield number, row
    except Exception as error:
        raise InputError(f"{source}: cannot be read after row {number}: {first_line(error)}") from error


def read_queries(source: str | Path, entries: Entries, counts: Counter[str] | None = None) -> dict[str, str]:
    """Query id → text; with `counts`, what is said twice is counted there.

    Raises InputError naming the lines of `source` where an id is empty or stands for two texts.
    """
    queries: dict[str, str] = {}
    counts = Counter() if counts is None else counts
    for number, query, text in entries():
        if not query:
            raise InputError(f"{source}, line {number}: the query's id is empty")
        if query in queries:
            counts["queries_dropped_as_repeated"] += 1
        if queries.setdefault(query, text) != text:
            raise InputError(_two_texts(source, entries, query, "query"))
    return queries


def build_collection(
    name: str,
    documents: DocumentTable,
    queries: dict[str, str],
    qrels: Qrels,
    report: dict,
    allow_missing: bool = False,
) -> Collection:
    """The collection of the judged queries, with what was found and dropped in its report.

    Judged queries without a text and queries without a judgment are dropped and counted.

    Raises:
        InputError: judgments name unknown documents (`allow_missing` drops and counts them instead), no judged query
            has a text, or no document is judged relevant.
    """
    counts: Counter[str] = Counter()
    judged = {query: some for query, some in qrels.items() if query in queries}
    counts["judged_queries_dropped_without_text"] = len(qrels) - len(judged)
    counts["queries_dropped_without_judgment"] = sum(query not in qrels for query in queries)
    if qrels and not judged:
        raise InputError(f"{name}: none of the {len(qrels)} judged queries ({preview(qrels)}) has a text")
    judged = _known(name, documents, judged, allow_missing, counts)
    positives = sum(label > 0 for some in judged.values() for label in some.values())
    if positives == 0:
        raise InputError(
            f"{name}: no document is judged relevant ({len(judged)} queries with judgments); others are given by "
            "--qrels FILE"
        )
    texts = {query: queries[query] for query in judged}
    counts["queries_with_empty_text"] = sum(not text.strip() for text in texts.values())
    report = report | {
        "documents": len(documents),
        "queries": len(texts),
        "judgments": sum(map(len, judged.values())),
        "positives_per_query": round(positives / len(texts), 3),
        **{reason: count for reason, count in counts.items() if count},
    }
    return Collection(name, documents, texts, judged, report)


def _known(name: str, documents: DocumentTable, qrels: Qrels, allow: bool, counts: Counter[str]) -> Qrels:
    unknown = set(documents.missing(list({document for some in qrels.values() for document in some})))
    if not unknown:
        return qrels
    if not allow:
        raise InputError(
            f"{name}: the judgments name {len(unknown)} documents that the collection does not have "
            f"({preview(sorted(unknown))}); --allow_missing true leaves them out"
        )
    known = {query: {d: label for d, label in some.items() if d not in unknown} for query, some in qrels.items()}
    counts["judgments_dropped_of_unknown_documents"] = sum(len(qrels[q]) - len(known[q]) for q in qrels)
    counts["queries_dropped_with_unknown_documents_only"] = sum(not some for some in known.values())
    return {query: some for query, some in known.items() if some}
