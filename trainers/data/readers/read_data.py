"""The door to all formats: `read_data` looks at what is given, gets its source, and says what was read."""

import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.pydocs.pydocs import SPLITS, pydocs_state, read_pydocs, read_pydocs_documents
from m3se.trainers.data.readers.assemble import add_lists, assemble, cache_documents
from m3se.trainers.data.readers.beir import is_beir, read_beir, stream_corpus
from m3se.trainers.data.readers.dpr import read_dpr
from m3se.trainers.data.readers.hub import read_hub
from m3se.trainers.data.readers.hub_parts import split_configuration
from m3se.trainers.data.readers.irds import PREFIX, read_irds
from m3se.trainers.data.readers.list_files import Format, check_format, has_texts, read_list_file
from m3se.trainers.data.readers.msmarco import is_msmarco, read_msmarco, read_text_triples, read_top1000
from m3se.trainers.data.readers.source import Qrels, Source
from m3se.trainers.data.readers.text_files import first_lines
from m3se.trainers.data.readers.trec import read_qrels
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError
from m3se.trainers.storage.state import State


logger = logging.getLogger(__name__)

EXPECTED = (
    "pydocs, a folder (BEIR: corpus.jsonl, queries.jsonl, qrels/; MS MARCO: collection.tsv, queries.<split>.tsv, "
    "qrels.<split>.tsv; or laid out like a Hub data set), a file (DPR json, triples of texts, top1000), "
    "ir_datasets:<id>, or a Hub data set org/name[:configuration]"
)
NOTED = re.compile("_dropped|_without_text|_empty_text|in_two_ways|scored_differently")
DATA_SUFFIXES = {".parquet", ".jsonl", ".json", ".csv", ".arrow", ".gz", ".zst"}  # of a folder like a Hub data set


def read_data(
    source: str,
    split: str,
    cache_dir: str | Path | None = None,
    *,
    candidates: str | Path | None = None,
    qrels: str | Path | None = None,
    allow_missing: bool = False,
    candidates_format: Format | Literal["auto"] = "auto",
    unlabelled: bool | None = False,
) -> Collection:
    """Read the split of a data source, whatever its format, with documents prepared once in `cache_dir`.

    Args:
        source: what to read (see docs/data.md).
        split: the queries and judgments to read, as the source calls them.
        cache_dir: where prepared data is kept; `~/.cache/m3se` by default.
        candidates: a file of lists or triples over the collection: a TREC or MS MARCO run, qidpidtriples,
            Hofstätter's teacher scores, or top1000.
        qrels: a file of judgments, to be taken instead of the source's own.
        allow_missing: drop and count judgments and pairs of unknown documents instead of refusing them.
        candidates_format: the format of `candidates`, where its lines may be read in two ways.
        unlabelled: read the queries that no split judges too; the split "train" need not have judgments then. None:
            where nothing is judged at all.

    Raises:
        InputError: the source is of no known format or cannot be read, or has no ids that `qrels` could name.
    """
    check_format(candidates_format)
    lists = None
    if candidates is not None:
        lists, list_format = read_list_file(Path(candidates), candidates_format)
    counts: Counter[str] = Counter()
    judgments = _read_judgments(Path(qrels), counts) if qrels else None
    collection = _read(str(source), split, cache_dir, judgments, allow_missing, unlabelled)
    collection.report |= counts
    if lists is not None:
        add_lists(collection, lists, list_format == "run", cache_dir, allow_missing)
    logger.info("%s", summary(collection))
    return collection


def has_split(source: str, split: str) -> bool:
    """Tell whether a data source has judgments of a split.

    Raises:
        InputError: the source is of no known format or cannot be read.
    """
    if source == "pydocs":
        return split in SPLITS
    judges = find_source(source, None).judges
    return judges is not None and judges(split)


def read_documents(source: str, cache_dir: str | Path | None = None, split: str | None = None) -> DocumentTable:
    """Read the documents of a data source alone, prepared once in `cache_dir`.

    Neither queries nor judgments need be there. A split is needed only where each has documents of its own.

    Raises:
        InputError: the source is of no known format, or its documents cannot be read.
    """
    if source == "pydocs":
        return read_pydocs_documents(cache_dir)
    documents, counts = cache_documents(find_source(str(source), split).documents, cache_dir)
    logger.info("%s: %s documents%s", source, f"{len(documents):,}", _noted(counts))
    return documents


def source_state(source: str) -> State | None:
    """Look at the files or packages that a data source consists of; None for one that is elsewhere."""
    if source == "pydocs":
        return pydocs_state()
    return State.read([source]) if Path(source).exists() else None


def read_corpus(file: str | Path, cache_dir: str | Path | None = None) -> DocumentTable:
    """Read a file of documents, JSON lines with `_id`, `text` and perhaps `title`, prepared once in `cache_dir`.

    Raises:
        InputError: there is no such file, or a line is no document.
    """
    if not Path(file).is_file():
        raise InputError(f"{file}: no such file; expected JSON lines with _id and text")
    documents, counts = cache_documents(stream_corpus(Path(file)), cache_dir)
    logger.info("%s: %s documents%s", file, f"{len(documents):,}", _noted(counts))
    return documents


def has_queries(source: str, split: str) -> bool:
    """Tell whether a data source has queries. Raises InputError when it is of no known format."""
    return source == "pydocs" or find_source(source, split).has_queries()


def read_without_queries(source: str, split: str, cache_dir: str | Path | None = None) -> Collection:
    """Read the documents of a source as a collection without queries. Raises InputError as `read_documents` does."""
    description = find_source(source, split)
    documents, counts = cache_documents(description.documents, cache_dir)
    report = {"source": description.name, "format": description.format, "documents": len(documents), **counts}
    return Collection(description.name, documents, {}, {}, report)


def read_titles(source: str, split: str) -> dict[str, str]:
    """Read the titles that stand at the beginning of a source's documents, by document id; some sources tell none."""
    return {} if source == "pydocs" else find_source(source, split).titles()


def summary(collection: Collection) -> str:
    """Say what was read in one line, with all that was dropped or is empty."""
    report = collection.report
    grades: Counter[float] = Counter()
    for judged in collection.qrels.values():
        grades.update(judged.values())
    relevant = Counter({grade: count for grade, count in grades.items() if grade > 0})
    judged = ""
    if report.get("queries_without_judgment"):
        judged = f"{len(collection.qrels):,} of them with judgments, "
    line = (
        f"{collection.name} ({report.get('format', 'embedded')}): {len(collection.queries):,} queries, {judged}"
        f"{len(collection.documents):,} documents, {sum(map(len, collection.qrels.values())):,} judgments, "
        f"{relevant.total() / max(len(collection.qrels), 1):.2f} positives per query"
    )
    if len(relevant) > 1:  # in some data the lowest grades mean that a document is not relevant
        line += f" of grades {min(relevant):g} to {max(relevant):g} (--relevance_level sets the lowest that counts)"
    if collection.candidates is not None:
        scored = " with teacher scores" if "teacher_scores" in collection.candidates.column_names else ""
        line += f", {_lengths(collection.candidates)}{scored}"
    return line + _noted(report)


def _noted(counts: dict[str, int]) -> str:
    noted = filter(NOTED.search, counts)
    return "".join(f"; {reason.replace('_', ' ')}: {counts[reason]:,}" for reason in noted)


def _lengths(candidates: Dataset) -> str:
    batches = candidates.select_columns("document_ids").with_format("arrow").iter(10_000)
    lengths = np.concatenate([pc.list_value_length(batch["document_ids"]).to_numpy() for batch in batches])
    low, middle, high = lengths.min(), np.median(lengths), lengths.max()
    return f"lists of {low:,} to {high:,} documents (median {middle:,.0f}) for {len(lengths):,} queries"


def _read_judgments(file: Path, counts: Counter[str]) -> Qrels:
    qrels = read_qrels(file, counts)
    if not qrels:
        raise InputError(f"--qrels {file}: has no judgments")
    return qrels


def _read(
    source: str,
    split: str,
    cache_dir: str | Path | None,
    qrels: Qrels | None,
    allow_missing: bool,
    unlabelled: bool | None,
) -> Collection:
    if source != "pydocs":
        return assemble(find_source(source, split), cache_dir, qrels, allow_missing, unlabelled)
    if qrels is not None:
        raise InputError("--qrels: pydocs brings its own judgments, and ids that no other file knows")
    return read_pydocs(split, cache_dir)  # parsing it takes half a minute, so that it is cached as a whole


def find_source(source: str, split: str | None) -> Source:
    """Describe the source that is called `source`. Raises InputError when it is of no known format."""
    path = Path(source)
    if source.startswith(PREFIX):
        return read_irds(source, split)
    if path.is_file():
        return _file_source(path)
    if path.is_dir() and is_beir(path):
        return read_beir(path, split)
    if path.is_dir() and is_msmarco(path):
        return read_msmarco(path, split)
    if path.is_dir() and not any(file.suffix in DATA_SUFFIXES for file in path.rglob("*")):
        raise InputError(f"{source}: the folder holds no data; expected {EXPECTED}")
    name, _ = split_configuration(source)
    if Path(name).is_dir() or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
        return read_hub(source, split)
    raise InputError(f"{source}: no such file or folder, and not a name of data; expected {EXPECTED}")


def _file_source(file: Path) -> Source:
    line = "".join(first_lines(file, 1))
    if not line:
        raise InputError(f"{file}: is empty")
    columns = line.count("\t") + 1
    if columns == 3 and not _is_json(line) and has_texts(file, 3):
        return read_text_triples(file)
    if line.lstrip()[0] in "[{":
        return read_dpr(file)
    if columns == 4 and has_texts(file, 4):
        return read_top1000(file)
    kind = "a file of ids" if len(line.split()) in (3, 5, 6) else "an unknown layout"
    raise InputError(
        f"{file}: is {kind}; expected DPR json, triples of texts or top1000. A file of ids goes with the folder that "
        "has the texts: --data FOLDER --candidates FILE"
    )


def _is_json(line: str) -> bool:
    try:
        return bool(json.loads(line))
    except ValueError:
        return False
