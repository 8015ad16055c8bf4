"""From a source to a collection: documents streamed to the cache once, and the checks that the parts fit together.

Nothing is dropped in silence: the report counts what was left out, by reason.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets import Dataset

from m3se.trainers.data.documents import DOCUMENT_FEATURES, DocumentTable, RepeatedId, surplus_rows
from m3se.trainers.data.readers.pairs import collect_lists
from m3se.trainers.data.readers.source import Entry, Pair, Qrels, Queries, Source, Stream, describe_two_texts
from m3se.trainers.data.readers.unlabelled import is_unjudged, may_lack_judgments, unlabelled_queries
from m3se.trainers.data.schema import Collection, positives
from m3se.trainers.errors import InputError, preview
from m3se.trainers.storage.arrow import save_dataset, write_rows
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import cache_key, cache_root, reusable


logger = logging.getLogger(__name__)


def assemble(
    source: Source,
    cache_dir: str | Path | None = None,
    qrels: Qrels | None = None,
    allow_missing: bool = False,
    unlabelled: bool | None = False,
) -> Collection:
    """Make the collection of a source's queries over all of its documents.

    Judgments are `qrels` where they are given, else the labels of the source's lists, else the source's own.

    Args:
        source: what to read.
        cache_dir: the cache.
        qrels: judgments to be taken instead of the source's own.
        allow_missing: drop and count judgments and pairs of unknown documents.
        unlabelled: take the queries that no split judges beside the judged ones; None: where nothing is judged.

    Raises:
        InputError: the source cannot take `qrels`, or needs them; a part cannot be read; the parts do not fit together
            (`allow_missing` drops and counts unknown documents instead).
    """
    if source.given_qrels == "refused" and qrels is not None:
        raise InputError(f"--qrels: {source.name} brings its own judgments, and ids that no other file knows")
    if source.given_qrels == "required" and qrels is None:
        raise InputError(f"{source.name}: {source.format} has no judgments; give them by --qrels FILE")
    counts: Counter[str] = Counter()
    queries = source.queries(counts)
    if unlabelled is None:
        unlabelled = qrels is None and is_unjudged(source)
    if qrels is None and source.pairs is None and source.qrels is not None:
        # before the documents: an unknown split is refused at once
        qrels = {} if unlabelled and may_lack_judgments(source) else source.qrels(counts)
    documents, dropped = cache_documents(source.documents, cache_dir)
    lists = None
    if source.pairs is not None:
        lists = collect_lists(source.pairs, queries, documents, cache_dir, allow_missing)
        qrels = qrels or lists.qrels or (source.qrels(counts) if source.qrels is not None else {})
    report = {"source": source.name, "format": source.format, **dropped, **counts}
    if source.split is not None:
        report["split"] = source.split
    # A source that needs judgments from elsewhere is a part of the collection that these judge.
    allow_missing = allow_missing or source.given_qrels == "required"
    collection = Collection(source.name, documents, queries, qrels or {}, report)
    if lists is not None:
        collection.candidates, collection.candidates_ranked = lists.candidates, source.ranked
        collection.report |= lists.counts
        if not qrels and "teacher_scores" in lists.candidates.column_names:
            return _unjudged(collection)
    extra: Queries = {}
    if unlabelled:
        judged = collection.qrels.keys() | (source.judged() if source.judged is not None else set())
        extra = unlabelled_queries(queries, judged, counts)
        collection.report |= +counts  # without the zeros
    collection = _judged(collection, allow_missing, extra)
    collection.other_queries = {query: text for query, text in queries.items() if query not in collection.queries}
    return collection


def add_lists(
    collection: Collection,
    pairs: Stream[Pair],
    ranked: bool,
    cache_dir: str | Path | None = None,
    allow_missing: bool = False,
) -> None:
    """Give a collection the lists of a file; the relevant pairs among them count where nothing else is judged.

    Args:
        collection: the collection that gets them.
        pairs: the pairs of the lists.
        ranked: whether the order of a list is best first.
        cache_dir: the cache.
        allow_missing: drop and count unknown documents.
    """
    lists = collect_lists(pairs, collection.queries, collection.documents, cache_dir, allow_missing)
    for query, relevant in lists.qrels.items():
        collection.qrels[query] = relevant | collection.qrels.get(query, {})
    collection.candidates, collection.candidates_ranked = lists.candidates, ranked
    if "queries_without_judgment" in collection.report:
        collection.report["queries_without_judgment"] = len(collection.queries.keys() - collection.qrels.keys())
    collection.report |= {"candidates": Path(pairs.place).name, **lists.counts}


def cache_documents(documents: Stream[Entry], cache_dir: str | Path | None) -> tuple[DocumentTable, dict[str, int]]:
    """Stream documents to the cache, or open them there; return the table and the counts of what was dropped.

    Raises:
        InputError: there is no document, an id is empty, or one stands for two texts (naming both lines).
    """
    folder = cache_root(cache_dir) / f"documents-{cache_key('documents', documents.place, documents.key)}"
    if reusable(folder):
        logger.info("%s: reusing the documents in %s", documents.place, folder)
    else:
        with complete_folder(folder, replace=False) as new:
            counts = _write_documents(documents, new)
            (new / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
    return DocumentTable.load(folder), json.loads((folder / "counts.json").read_text(encoding="utf-8"))


def _write_documents(documents: Stream[Entry], folder: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()

    def rows() -> Iterator[dict]:
        """Yield the documents as rows, and count those without text."""
        for number, document, text in documents.read():
            if not document:
                raise InputError(f"{documents.place}, line {number}: the document's id is empty")
            counts["documents_without_text"] += not text
            yield {"id": document, "text": text}

    file = folder / "table.arrow"
    if len(write_rows(rows(), DOCUMENT_FEATURES, file)) == 0:
        raise InputError(f"{documents.place}: no documents")
    table = DocumentTable.unchecked(file)
    try:
        surplus = surplus_rows(table)
    except RepeatedId as repeated:
        texts = describe_two_texts(documents.place, "document", documents.read, str(repeated))
        raise InputError(texts) from None
    if surplus:
        counts["documents_dropped_as_repeated"] = len(surplus)
        rows_read = Dataset.from_file(str(file))
        save_dataset(rows_read.select(np.setdiff1d(np.arange(len(rows_read)), surplus)), file)
        table = DocumentTable.unchecked(file)
    table.write_index_into(folder)
    return dict(+counts)  # without the zeros


def _unjudged(collection: Collection) -> Collection:
    """Complete a collection whose lists have teacher scores and whose documents nobody has judged.

    Every label is 0 then, and only the losses that need no positive (softmax_distillation, mse) learn from the lists.
    """
    logger.warning("%s: nothing says which documents are relevant; all labels are 0", collection.name)
    collection = collection.only(set(collection.candidates["query_id"]))
    collection.report |= _sizes(collection, 0)
    return collection


def _judged(collection: Collection, allow_missing: bool, unlabelled: Queries) -> Collection:
    """Keep the judged queries that have a text, and the unlabelled ones; count the others.

    Raises:
        InputError: judgments name unknown documents (`allow_missing` drops and counts them instead), or there are no
            unlabelled queries and no judged query has a text, or no document is judged relevant.
    """
    counts: Counter[str] = Counter()
    name, queries, qrels = collection.name, collection.queries, collection.qrels
    judged = {query: grades for query, grades in qrels.items() if query in queries}
    counts["judged_queries_dropped_without_text"] = len(qrels) - len(judged)
    counts["queries_without_judgment"] = len(unlabelled)
    counts["queries_dropped_without_judgment"] = len(queries) - len(judged) - len(unlabelled)
    if qrels and not judged and not unlabelled:
        raise InputError(f"{name}: none of the {len(qrels)} judged queries ({preview(qrels)}) has a text")
    judged = _with_known_documents(collection, judged, allow_missing, counts)
    positive_count = sum(map(len, map(positives, judged.values())))
    if positive_count == 0 and not unlabelled:
        raise InputError(
            f"{name}: no document is judged relevant ({len(judged)} queries with judgments); others are given by "
            "--qrels FILE"
        )
    collection.queries = {query: queries[query] for query in judged} | unlabelled
    collection.qrels = judged
    counts["queries_with_empty_text"] = sum(not text.strip() for text in collection.queries.values())
    collection.report |= _sizes(collection, positive_count)
    collection.report |= +counts  # without the zeros
    return collection


def _sizes(collection: Collection, positive_count: int) -> dict[str, float]:
    return {
        "documents": len(collection.documents),
        "queries": len(collection.queries),
        "judgments": sum(map(len, collection.qrels.values())),
        "positives_per_query": round(positive_count / max(len(collection.qrels), 1), 3),
    }


def _with_known_documents(collection: Collection, qrels: Qrels, allow: bool, counts: Counter[str]) -> Qrels:
    """Drop and count the judgments of unknown documents. Raises InputError naming them unless `allow`."""
    judged_documents: set[str] = set().union(*qrels.values())
    unknown = set(collection.documents.missing(list(judged_documents)))
    if not unknown:
        return qrels
    if not allow:
        raise InputError(
            f"{collection.name}: the judgments name {len(unknown)} documents that the collection does not have "
            f"({preview(sorted(unknown))}); --allow_missing true leaves them out"
        )
    remaining: Qrels = {}
    for query, grades in qrels.items():
        judged = {document: grade for document, grade in grades.items() if document not in unknown}
        counts["judgments_dropped_of_unknown_documents"] += len(grades) - len(judged)
        if judged:
            remaining[query] = judged
    counts["queries_dropped_with_unknown_documents_only"] = len(qrels) - len(remaining)
    return remaining
