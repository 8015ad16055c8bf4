"""A folder of MS MARCO's files under their own names, and whatever uses these names.

collection.tsv                       id, text
queries.<split>.tsv                  id, text        (TREC DL: msmarco-test<year>-queries.tsv)
qrels.<split>.tsv                    judgments       (TREC DL: <year>qrels-pass.txt)
lists: see trainers/data/list_files.py; found by kind, or given by name
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from m3se.trainers.data.readers.assemble import Qrels, build_collection, cache_documents, file_key, read_queries
from m3se.trainers.data.readers.text_files import find, read_columns
from m3se.trainers.data.readers.trec import read_qrels
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError


COLLECTION = "collection.tsv"
QUERIES = ("queries.{}.tsv", "msmarco-test{}-queries.tsv", "msmarco-passagetest{}-queries.tsv", "topics.{}.tsv")
QRELS = ("qrels.{}.tsv", "{}qrels-pass.txt", "{}.qrels-pass.txt", "qrels.{}.txt")


def is_msmarco(folder: Path) -> bool:
    """Whether `folder` has a `collection.tsv`."""
    return find(folder, COLLECTION) is not None


def read_msmarco(
    folder: str | Path,
    split: str,
    cache_dir: str | Path | None = None,
    qrels: Qrels | None = None,
    allow_missing: bool = False,
) -> Collection:
    """The queries of `queries.<split>.tsv` that `qrels.<split>.tsv` (or `qrels`) judges, over the collection.

    Raises InputError with file and line for what cannot be read, and naming the files that were looked for.
    """
    folder = Path(folder)
    queries_file = _split_file(folder, split, QUERIES)
    counts: Counter[str] = Counter()
    judged = qrels or read_qrels(_split_file(folder, split, QRELS), counts)
    texts = find(folder, COLLECTION)
    documents, dropped = cache_documents(texts, lambda: _entries(texts), file_key(texts), cache_dir)
    queries = read_queries(queries_file, lambda: _entries(queries_file), counts)
    report = {"source": folder.name, "format": "MS MARCO", "split": split, **dropped, **counts}
    return build_collection(folder.name, documents, queries, judged, report, allow_missing)


def _split_file(folder: Path, split: str, patterns: tuple[str, ...]) -> Path:
    names = [pattern.format(split) for pattern in patterns]
    file = find(folder, *names)
    if file is None:
        kind = patterns[0].split(".")[0]
        there = sorted(path.name for path in folder.iterdir() if kind in path.name)
        raise InputError(
            f"{folder}: no {kind} of split {split!r}: expected {names[0]} (or {', '.join(names[1:])}), "
            f"found {', '.join(there) or 'none'}"
        )
    return file


def _entries(file: Path) -> Iterator[tuple[int, str, str]]:
    for number, (name, text) in read_columns(file, ("id", "text")):
        yield number, name.strip(), text.strip()
