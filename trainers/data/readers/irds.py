"""Any `ir_datasets` id, as `ir_datasets:<id>`. The package (extra `data`) is imported only when it is asked for."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from m3se.trainers.data.readers.assemble import Qrels, build_collection, cache_documents, parsed, read_queries
from m3se.trainers.data.readers.pairs import Pair, collect_lists, collection_from_lists
from m3se.trainers.data.readers.trec import judge
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError


PREFIX = "ir_datasets:"


def read_irds(
    source: str,
    split: str,
    cache_dir: str | Path | None = None,
    qrels: Qrels | None = None,
    allow_missing: bool = False,
) -> Collection:
    """The data set `id/split` of `ir_datasets:id`, or `id` itself when it is judged: then it is taken for any split.

    `qrels` replaces its judgments. Its `scoreddocs` (or its `docpairs`, if it has no such) become the candidates.

    Raises InputError when the package is not installed, when it knows no such id, or when that has no documents,
    queries or judgments.
    """
    dataset = _load(source.removeprefix(PREFIX), split)
    name = dataset.dataset_id()
    counts: Counter[str] = Counter()
    documents, dropped = cache_documents(name, lambda: _documents(dataset), [name, dataset.docs_count()], cache_dir)
    queries = read_queries(name, lambda: _queries(dataset), counts)
    qrels = qrels or _qrels(dataset, source, counts)
    report = {"source": f"{PREFIX}{name}", "format": "ir_datasets", "split": split, **dropped, **counts}
    if not (dataset.has_scoreddocs() or dataset.has_docpairs()):
        return build_collection(name, documents, queries, qrels, report, allow_missing)
    brought = collect_lists(name, lambda: _pairs(dataset), queries, documents, [name], cache_dir, allow_missing)
    return collection_from_lists(name, documents, queries, qrels, brought, report, allow_missing)


def _load(name: str, split: str):
    try:
        import ir_datasets
    except ImportError:
        raise InputError(f"{PREFIX}{name} needs the package ir_datasets: pip install 'm3se[data]'") from None
    found = None
    for candidate in (f"{name}/{split}", name):
        try:
            found = ir_datasets.load(candidate)
        except KeyError:
            continue
        if found.has_docs() and found.has_queries() and found.has_qrels():
            return found
    if found is None:
        raise InputError(f"{PREFIX}{name}: ir_datasets knows neither {name}/{split} nor {name}")
    raise InputError(f"{PREFIX}{name}: {found.dataset_id()} has not all of documents, queries and judgments")


def _documents(dataset) -> Iterator[tuple[int, str, str]]:
    for number, document in parsed(dataset.docs_iter, f"{PREFIX}{dataset.dataset_id()}, documents"):
        yield number, document.doc_id, document.default_text()


def _queries(dataset) -> Iterator[tuple[int, str, str]]:
    for number, query in parsed(dataset.queries_iter, f"{PREFIX}{dataset.dataset_id()}, queries"):
        yield number, query.query_id, query.default_text()


def _qrels(dataset, source: str, counts: Counter[str]) -> Qrels:
    qrels: Qrels = {}
    for number, judged in parsed(dataset.qrels_iter, f"{source}, judgments"):
        judge(qrels, judged.query_id, judged.doc_id, float(judged.relevance), f"{source}, judgment {number}", counts)
    return qrels


def _pairs(dataset) -> Iterator[Pair]:
    if dataset.has_scoreddocs():
        for _, scored in parsed(dataset.scoreddocs_iter, f"{PREFIX}{dataset.dataset_id()}, scored documents"):
            yield Pair(scored.query_id, scored.doc_id)
        return
    for _, triple in parsed(dataset.docpairs_iter, f"{PREFIX}{dataset.dataset_id()}, triples"):
        yield Pair(triple.query_id, triple.doc_id_a, 1.0)
        yield Pair(triple.query_id, triple.doc_id_b)
