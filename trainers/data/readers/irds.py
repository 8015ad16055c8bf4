"""Any `ir_datasets` id, as `ir_datasets:<id>`. The package (extra `data`) is imported only when it is asked for."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from m3se.trainers.data.readers.source import Entry, Pair, Qrels, Source, Stream, numbered_rows, read_queries
from m3se.trainers.data.readers.trec import judge
from m3se.trainers.errors import InputError, first_line, shorten
from m3se.trainers.storage.cache import file_key


PREFIX = "ir_datasets:"


def read_irds(source: str, split: str | None) -> Source:
    """Describe the data set `id/split` of `ir_datasets:id`, or `id` itself when it is judged, whatever the split.

    Its `scoreddocs` (or its `docpairs`, if it has no such) become the candidates.

    Raises:
        InputError: the package is not installed, it knows no such id, or that has no documents, queries or judgments
            (without a split, documents are enough).
    """
    dataset = _load(source.removeprefix(PREFIX), split)
    name = f"{PREFIX}{dataset.dataset_id()}"
    pairs, ranked = None, False
    if dataset.has_scoreddocs():
        ranked = _has_scores(dataset, name)
        key = [name, _version(dataset, "scoreddocs"), "by score"]
        pairs = Stream(name, key, lambda: _scored(dataset, name, ranked))
    elif dataset.has_docpairs():
        pairs = Stream(name, [name, _version(dataset, "docpairs")], lambda: _triples(dataset, name))
    return Source(
        name,
        "ir_datasets",
        documents=Stream(name, [name, _version(dataset, "docs")], lambda: _documents(dataset, name)),
        queries=lambda counts: read_queries(name, lambda: _queries(dataset, name), counts),
        qrels=lambda counts: _qrels(dataset, name, counts),
        pairs=pairs,
        ranked=ranked,
        split=split,
    )


def _load(name: str, split: str | None) -> Any:
    try:
        import ir_datasets
    except ImportError:
        raise InputError(f"{PREFIX}{name} needs the package ir_datasets: pip install 'm3se[data]'") from None
    dataset = None
    for candidate in (f"{name}/{split}", name) if split else (name,):
        try:
            dataset = ir_datasets.load(candidate)
        except KeyError:
            continue
        if dataset.has_docs() and (split is None or (dataset.has_queries() and dataset.has_qrels())):
            return dataset
    if dataset is None:
        candidates = f"neither {name}/{split} nor {name}" if split else f"no {name}"
        raise InputError(f"{PREFIX}{name}: ir_datasets knows {candidates}")
    raise InputError(f"{PREFIX}{name}: {dataset.dataset_id()} has not all of documents, queries and judgments")


def _version(dataset: Any, part: str) -> list:
    """Return a key of the files of a part (docs, scoreddocs, docpairs); an empty one where the package names none.

    Raises:
        InputError: the package cannot fetch the files.
    """
    try:
        path = Path(getattr(dataset, f"{part}_path")())
    except (AttributeError, NotImplementedError, TypeError):
        return []
    except Exception as error:  # of its downloads: any that the network, the disk or an archive may raise
        raise InputError(f"{PREFIX}{dataset.dataset_id()}: no {part}: {first_line(error)}") from error
    if not path.exists():
        return []
    return file_key(*sorted(filter(Path.is_file, path.rglob("*"))) if path.is_dir() else [path])


def _documents(dataset: Any, name: str) -> Iterator[Entry]:
    for number, document in numbered_rows(dataset.docs_iter, f"{name}, documents"):
        yield number, document.doc_id, document.default_text()


def _queries(dataset: Any, name: str) -> Iterator[Entry]:
    for number, query in numbered_rows(dataset.queries_iter, f"{name}, queries"):
        yield number, query.query_id, query.default_text()


def _qrels(dataset: Any, name: str, counts: Counter[str]) -> Qrels:
    qrels: Qrels = {}
    for number, judged in numbered_rows(dataset.qrels_iter, f"{name}, judgments"):
        judge(qrels, judged.query_id, judged.doc_id, float(judged.relevance), f"{name}, judgment {number}", counts)
    return qrels


def _has_scores(dataset: Any, name: str) -> bool:
    """Tell whether the scored documents have scores: MS MARCO's top 1000 have none, and stand in random order."""
    rows = _scored_rows(dataset, name)
    _, first = next(rows, (0, None))
    return any(row.score != first.score for _, row in rows)


def _scored_rows(dataset: Any, name: str) -> Iterator[tuple[int, Any]]:
    return numbered_rows(dataset.scoreddocs_iter, f"{name}, scored documents")


def _scored(dataset: Any, name: str, ranked: bool) -> Iterator[Pair]:
    """Yield the scored documents, those of a query best first where they are ranked.

    Raises:
        InputError: the ranked documents of a query do not stand together, so that they cannot be sorted as they come.
    """
    seen: set[str] = set()
    for query, rows in groupby(map(itemgetter(1), _scored_rows(dataset, name)), key=attrgetter("query_id")):
        if ranked and query in seen:
            raise InputError(
                f"{name}: the scored documents of query {shorten(query)} do not stand together; write them to a run "
                "file, and name that with --candidates"
            )
        seen.add(query)
        for row in sorted(rows, key=lambda row: -row.score):
            yield Pair(query, row.doc_id)


def _triples(dataset: Any, name: str) -> Iterator[Pair]:
    """Yield the documents of the triples. Their labels are left to the judgments, which name more positives."""
    for _, triple in numbered_rows(dataset.docpairs_iter, f"{name}, triples"):
        yield Pair(triple.query_id, triple.doc_id_a)
        yield Pair(triple.query_id, triple.doc_id_b)
