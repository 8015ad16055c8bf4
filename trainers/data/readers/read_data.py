"""One door for all formats: `read_data` looks at what it is given and says what it found."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from m3se.trainers.data.pydocs.pydocs import read_pydocs
from m3se.trainers.data.readers.assemble import Qrels, file_key
from m3se.trainers.data.readers.beir import is_beir, read_beir
from m3se.trainers.data.readers.dpr import read_dpr
from m3se.trainers.data.readers.hub import name_and_configuration, read_hub
from m3se.trainers.data.readers.irds import PREFIX, read_irds
from m3se.trainers.data.readers.list_files import detect_kind, read_pairs
from m3se.trainers.data.readers.msmarco import is_msmarco, read_msmarco
from m3se.trainers.data.readers.msmarco_texts import read_text_triples, read_top1000
from m3se.trainers.data.readers.pairs import collect_lists
from m3se.trainers.data.readers.text_files import first_lines, starts_with
from m3se.trainers.data.readers.trec import read_qrels
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError


logger = logging.getLogger(__name__)

EXPECTED = (
    "pydocs, a folder (BEIR: corpus.jsonl, queries.jsonl, qrels/; MS MARCO: collection.tsv, queries.<split>.tsv, "
    "qrels.<split>.tsv; or laid out like a Hub data set), a file (DPR json, triples of texts, top1000), "
    "ir_datasets:<id>, or a Hub data set org/name[:configuration]"
)
NOTED = ("_dropped", "_without_text", "_empty_text", "in_two_ways", "scored_differently")
DATA_SUFFIXES = {".parquet", ".jsonl", ".json", ".csv", ".arrow", ".gz", ".zst"}  # of a folder like a Hub data set


def read_data(
    source: str,
    split: str,
    cache_dir: str | Path | None = None,
    *,
    candidates: str | Path | None = None,
    qrels: str | Path | None = None,
    allow_missing: bool = False,
) -> Collection:
    """The split of a data source, whatever its format, with documents prepared once in `cache_dir`.

    `candidates` is a file of lists or triples over the collection (a TREC or MS MARCO run, qidpidtriples, Hofstätter's
    teacher scores, top1000; see list_files.py), `qrels` one of judgments, to be taken instead of the source's own.
    `allow_missing` drops and counts judgments and pairs that name unknown documents instead of refusing them.

    Raises InputError when the source is of no known format or cannot be read, or has no ids that `qrels` could name.
    """
    counts: Counter[str] = Counter()
    judgments = read_qrels(Path(qrels), counts) if qrels else None
    collection = _read(str(source), split, cache_dir, judgments, allow_missing)
    collection.report |= counts
    if candidates is not None:
        _bring(collection, Path(candidates), cache_dir, allow_missing)
    logger.info("%s", summary(collection))
    return collection


def summary(collection: Collection) -> str:
    """What was found, in one line, with all that was dropped or is empty."""
    report = collection.report
    positives = sum(label > 0 for judged in collection.qrels.values() for label in judged.values())
    line = (
        f"{collection.name} ({report.get('format', 'embedded')}): {len(collection.queries):,} queries, "
        f"{len(collection.documents):,} documents, {sum(map(len, collection.qrels.values())):,} judgments, "
        f"{positives / max(len(collection.queries), 1):.2f} positives per query"
    )
    if collection.candidates is not None:
        scored = " with teacher scores" if "teacher_scores" in collection.candidates.column_names else ""
        line += f", {_lengths(collection.candidates)}{scored}"
    noted = {reason: count for reason, count in report.items() if any(word in reason for word in NOTED)}
    return line + "".join(f"; {reason.replace('_', ' ')}: {count:,}" for reason, count in noted.items())


def _lengths(candidates: Dataset) -> str:
    batches = candidates.select_columns("document_ids").with_format("arrow").iter(10_000)
    lengths = np.concatenate([pc.list_value_length(batch["document_ids"]).to_numpy() for batch in batches])
    low, middle, high = lengths.min(), np.median(lengths), lengths.max()
    return f"lists of {low:,} to {high:,} documents (median {middle:,.0f}) for {len(lengths):,} queries"


def _read(
    source: str, split: str, cache_dir: str | Path | None, qrels: Qrels | None, allow_missing: bool
) -> Collection:
    path = Path(source)
    if source == "pydocs":
        _refuse(qrels, source)
        return read_pydocs(split, cache_dir)
    if source.startswith(PREFIX):
        return read_irds(source, split, cache_dir, qrels, allow_missing)
    if path.is_file():
        return _read_file(path, cache_dir, qrels)
    if path.is_dir() and is_beir(path):
        return read_beir(path, split, cache_dir, qrels, allow_missing)
    if path.is_dir() and is_msmarco(path):
        return read_msmarco(path, split, cache_dir, qrels, allow_missing)
    if path.is_dir() and not any(file.suffix in DATA_SUFFIXES for file in path.rglob("*")):
        raise InputError(f"{source}: the folder holds no data; expected {EXPECTED}")
    name, _ = name_and_configuration(source)
    if Path(name).is_dir() or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
        return read_hub(source, split, cache_dir, qrels, allow_missing)
    raise InputError(f"{source}: no such file or folder, and not a name of data; expected {EXPECTED}")


def _read_file(file: Path, cache_dir: str | Path | None, qrels: Qrels | None) -> Collection:
    if starts_with(file) in ("[", "{"):
        _refuse(qrels, file)
        return read_dpr(file, cache_dir)
    kind = detect_kind(file)
    if kind == "top1000":
        if qrels is None:
            raise InputError(f"{file}: top1000 has no judgments; give them by --qrels FILE")
        return read_top1000(file, qrels, cache_dir)
    if kind is None and all(len(line.split("\t")) == 3 for line in first_lines(file, 3)):
        _refuse(qrels, file)
        return read_text_triples(file, cache_dir)
    found = f"a file of ids ({kind})" if kind else "an unknown layout"
    raise InputError(
        f"{file}: is {found}; expected DPR json, triples of texts or top1000. A file of ids goes with the folder that "
        "has the texts: --data FOLDER --candidates FILE"
    )


def _refuse(qrels: Qrels | None, source: str | Path) -> None:
    if qrels is not None:
        raise InputError(f"--qrels: {source} brings its own judgments, and ids that no other file knows")


def _bring(collection: Collection, file: Path, cache_dir: str | Path | None, allow_missing: bool) -> None:
    """Put the lists of `file` in the collection; positives of its triples count as judged where nothing else is."""
    if not file.is_file():
        raise InputError(f"{file}: no such file of candidates")
    brought = collect_lists(
        str(file),
        lambda: read_pairs(file),
        collection.queries,
        collection.documents,
        file_key(file),
        cache_dir,
        allow_missing,
    )
    for query, relevant in brought.qrels.items():
        collection.qrels[query] = relevant | collection.qrels[query]
    collection.candidates, collection.candidates_ranked = brought.candidates, detect_kind(file) == "run"
    collection.report |= {"candidates": file.name, **brought.counts}
