"""The BEIR folder: `corpus.jsonl` (_id, title, text), `queries.jsonl` (_id, text) and `qrels/<split>.tsv`."""

import json
from collections.abc import Iterator
from pathlib import Path

from trainers.data.arrow import dataset_of
from trainers.data.documents import DOCUMENT_FEATURES, DocumentTable
from trainers.data.schema import Collection
from trainers.errors import InputError


def is_beir(folder: Path) -> bool:
    """Whether `folder` has the three parts of a BEIR data set."""
    return (folder / "corpus.jsonl").is_file() and (folder / "queries.jsonl").is_file() and (folder / "qrels").is_dir()


def read_beir(folder: str | Path, split: str) -> Collection:
    """The queries that `qrels/<split>.tsv` judges, over the whole corpus; a title goes before its text.

    Raises InputError with file and line for what cannot be read, and for a split that the folder does not have.
    """
    folder = Path(folder)
    qrels_file = folder / "qrels" / f"{split}.tsv"
    if not qrels_file.exists():
        found = ", ".join(sorted(file.stem for file in (folder / "qrels").glob("*.tsv"))) or "none"
        raise InputError(f"{folder}: no split {split!r}; qrels/ has {found}")
    documents = DocumentTable(dataset_of(_documents(folder / "corpus.jsonl"), DOCUMENT_FEATURES))
    texts = {row["_id"]: row["text"] for row in _records(folder / "queries.jsonl")}
    qrels = _qrels(qrels_file)
    queries = {query: texts[query] for query in qrels if query in texts}
    report = {
        "source": str(folder),
        "split": split,
        "documents": len(documents),
        "queries": len(queries),
        "queries_without_text": len(qrels) - len(queries),
        "judgments": sum(len(judged) for judged in qrels.values()),
    }
    return Collection(folder.name, documents, queries, {query: qrels[query] for query in queries}, report)


def _documents(file: Path) -> Iterator[dict]:
    for row in _records(file):
        yield {"id": row["_id"], "text": f"{row.get('title') or ''} {row['text']}".strip()}


def _records(file: Path) -> Iterator[dict]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                yield row | {"_id": str(row["_id"]), "text": str(row["text"])}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{file}, line {number}: expected an object with _id and text: {error!r}") from error


def _qrels(file: Path) -> dict[str, dict[str, float]]:
    qrels: dict[str, dict[str, float]] = {}
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            columns = line.rstrip("\r\n").split("\t")
            if not line.strip() or (number == 1 and columns[-1] == "score"):
                continue
            try:
                query, document, label = columns
                qrels.setdefault(query, {})[document] = float(label)
            except ValueError as error:
                raise InputError(
                    f"{file}, line {number}: expected query-id, corpus-id, score; got {line!r}"
                ) from error
    return qrels
