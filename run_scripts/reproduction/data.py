"""The collection of a study: splits train, dev (held out of train) and test (only for the tables)."""

import json
import os
from hashlib import blake2b
from pathlib import Path

from m3se.trainers.data.readers.beir import is_beir
from m3se.trainers.data.schema import hash_subset
from m3se.trainers.errors import InputError


def split_collection(source: Path, folder: Path, held_out: int) -> Path:
    """Make a BEIR folder of `source`'s texts whose dev split is `held_out` of its training queries, chosen by hash.

    Test is the source's test split or, where it has none, its dev split. Raises InputError when `source` is no BEIR
    folder with a training split of more queries than that.
    """
    if not is_beir(source) or not (source / "qrels" / "train.tsv").is_file():
        raise InputError(f"--data {source}: expected a BEIR folder: corpus.jsonl, queries.jsonl and qrels/train.tsv")
    measured = list(filter(Path.is_file, (source / "qrels" / "test.tsv", source / "qrels" / "dev.tsv")))
    if not measured:
        raise InputError(f"--data {source}: expected qrels/test.tsv or qrels/dev.tsv to measure on")
    header, *lines = (source / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()
    queries = list(dict.fromkeys(map(query_id, lines)))
    if len(queries) <= held_out:
        raise InputError(f"--data {source}: expected more than {held_out} training queries, got {len(queries)}")
    dev = hash_subset(queries, held_out)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for file in (*source.glob("corpus.jsonl*"), *source.glob("queries.jsonl*")):
        link(file, folder / file.name)
    for split, in_dev in (("train", False), ("dev", True)):
        chosen = [line for line in lines if (query_id(line) in dev) == in_dev]
        write_once(folder / "qrels" / f"{split}.tsv", "\n".join([header, *chosen]) + "\n")
    write_once(folder / "qrels" / "test.tsv", measured[0].read_text(encoding="utf-8"))
    return folder


def query_id(line: str) -> str:
    """Return the query of a line of judgements."""
    return line.split("\t")[0]


def link(file: Path, name: Path) -> None:
    """Make or renew a link to a file."""
    if name.is_symlink():
        name.unlink()
    os.symlink(file.resolve(), name)


def write_once(path: Path, text: str) -> None:
    """Leave a file alone that says the same already: its age is part of what tells versions of data apart."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def data_key(source: str) -> str:
    """Hash what tells this data from other data: a folder's file names and sizes, or the name itself."""
    path = Path(source)
    files = []
    for file in filter(Path.is_file, path.rglob("*")):
        files.append((str(file.relative_to(path)), file.stat().st_size))
    return blake2b(json.dumps(sorted(files) or source).encode(), digest_size=6).hexdigest()
