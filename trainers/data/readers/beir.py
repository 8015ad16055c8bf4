"""The BEIR folder: `corpus.jsonl` (_id, title, text), `queries.jsonl` (_id, text) and `qrels/<split>.tsv`."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from m3se.trainers.data.readers.source import Entry, Queries, Source, Stream, read_queries
from m3se.trainers.data.readers.text_files import find, read_records
from m3se.trainers.data.readers.trec import read_qrels
from m3se.trainers.errors import InputError, shorten
from m3se.trainers.storage.cache import file_key


def is_beir(folder: Path) -> bool:
    """Tell whether `folder` has a BEIR data set's corpus (and not the judgments of a copy of MTEB's on the Hub)."""
    return find(folder, "corpus.jsonl") is not None and not any((folder / "qrels").glob("*.jsonl"))


def read_beir(folder: Path, split: str) -> Source:
    """Describe a BEIR folder: the whole corpus, a title before its text, and the judgments of `qrels/<split>.tsv`.

    Its parts raise InputError with file and line for what cannot be read, and for a split that the folder lacks.
    """
    corpus = find(folder, "corpus.jsonl")
    return Source(
        folder.name,
        "BEIR",
        documents=stream_corpus(corpus),
        queries=lambda counts: _queries(folder, counts),
        qrels=lambda counts: read_qrels(_qrels_file(folder, split), counts),
        split=split,
        judges=lambda split: bool(_splits(folder)) if split is None else split in _splits(folder),
        judged=lambda: _judged(folder),
        has_queries=lambda: find(folder, "queries.jsonl") is not None,
        titles=lambda: _titles(corpus),
    )


def stream_corpus(file: Path) -> Stream[Entry]:
    """Describe a file of documents as `corpus.jsonl` has them."""
    return Stream(str(file), file_key(file), lambda: _entries(file))


def _queries(folder: Path, counts: Counter[str]) -> Queries:
    file = find(folder, "queries.jsonl")
    if file is None:
        raise InputError(f"{folder}: queries.jsonl is missing")
    return read_queries(file, lambda: _entries(file), counts)


def _qrels_file(folder: Path, split: str) -> Path:
    file = find(folder / "qrels", f"{split}.tsv")
    if file is None:
        raise InputError(f"{folder}: no split {split!r}; qrels/ has {', '.join(_splits(folder)) or 'none'}")
    return file


def _splits(folder: Path) -> list[str]:
    return sorted({file.name.split(".tsv")[0] for file in (folder / "qrels").glob("*.tsv*")})


def _judged(folder: Path) -> set[str]:
    """Return the ids of the queries that any split judges."""
    judged: set[str] = set()
    for split in _splits(folder):
        judged |= read_qrels(_qrels_file(folder, split)).keys()
    return judged


def _titles(corpus: Path) -> dict[str, str]:
    """Return the titles that are not empty, by document."""
    titles = {str(record.get("_id")): record.get("title") for _, record in read_records(corpus)}
    return {name: title.strip() for name, title in titles.items() if title and title.strip()}


def _entries(file: Path) -> Iterator[Entry]:
    """Yield (line, id, title and text) of the objects of a file."""
    for number, record in read_records(file):
        for field in ("_id", "text"):
            if record.get(field) is None:
                raise InputError(f"{file}, line {number}: {field} is missing in {shorten(str(record))}")
        name, text, title = record["_id"], record["text"], record.get("title") or ""
        if not (isinstance(text, str) and isinstance(title, str) and type(name) in (str, int)):
            raise InputError(f"{file}, line {number}: expected an id and texts, got {shorten(str(record))}")
        yield number, str(name), f"{title} {text}".strip()
