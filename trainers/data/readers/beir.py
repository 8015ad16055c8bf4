"""The BEIR folder: `corpus.jsonl` (_id, title, text), `queries.jsonl` (_id, text) and `qrels/<split>.tsv`."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from m3se.trainers.data.readers.assemble import Qrels, build_collection, cache_documents, file_key, read_queries
from m3se.trainers.data.readers.text_files import find, read_records
from m3se.trainers.data.readers.trec import read_qrels
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError, shorten


def is_beir(folder: Path) -> bool:
    """Whether `folder` has a BEIR data set's corpus (and not the judgments of a copy of MTEB's on the Hub)."""
    return find(folder, "corpus.jsonl") is not None and not any((folder / "qrels").glob("*.jsonl"))


def read_beir(
    folder: str | Path,
    split: str,
    cache_dir: str | Path | None = None,
    qrels: Qrels | None = None,
    allow_missing: bool = False,
) -> Collection:
    """The queries that `qrels/<split>.tsv` (or `qrels`) judges, over the whole corpus; a title goes before its text.

    Raises InputError with file and line for what cannot be read, and for a split that the folder does not have.
    """
    folder = Path(folder)
    counts: Counter[str] = Counter()
    judged = qrels or read_qrels(_qrels_file(folder, split), counts)
    queries_file = find(folder, "queries.jsonl")
    if queries_file is None:
        raise InputError(f"{folder}: queries.jsonl is missing")
    corpus = find(folder, "corpus.jsonl")
    documents, dropped = cache_documents(corpus, lambda: _entries(corpus), file_key(corpus), cache_dir)
    queries = read_queries(queries_file, lambda: _entries(queries_file), counts)
    report = {"source": folder.name, "format": "BEIR", "split": split, **dropped, **counts}
    return build_collection(folder.name, documents, queries, judged, report, allow_missing)


def _qrels_file(folder: Path, split: str) -> Path:
    file = find(folder / "qrels", f"{split}.tsv")
    if file is None:
        splits = sorted({file.name.split(".tsv")[0] for file in (folder / "qrels").glob("*.tsv*")})
        raise InputError(f"{folder}: no split {split!r}; qrels/ has {', '.join(splits) or 'none'}")
    return file


def _entries(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line, id, title and text) of the objects of a file."""
    for number, record in read_records(file):
        missing = [field for field in ("_id", "text") if record.get(field) is None]
        if missing:
            raise InputError(f"{file}, line {number}: {missing[0]} is missing in {shorten(str(record))}")
        name, text, title = record["_id"], record["text"], record.get("title") or ""
        if not (isinstance(text, str) and isinstance(title, str) and type(name) in (str, int)):
            raise InputError(f"{file}, line {number}: expected an id and texts, got {shorten(str(record))}")
        yield number, str(name), f"{title} {text}".strip()
