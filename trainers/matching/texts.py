"""Texts of a collection as rows that embeddings are matched on: no judgments, no candidates."""

from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np

from m3se.trainers.data import ROW_FEATURES, Collection, RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


SEED = 0  # of the order of documents
MOST = 4  # documents of a row: few queries are read again and again, rather than beside hundreds of documents


def text_rows(collection: Collection, with_documents: bool) -> RankingLists:
    """Make rows of a query with documents that need not belong to it: every query and every document is in some row.

    Args:
        collection: the texts.
        with_documents: documents are matched too; else each row has one, which is only there to have the shape.

    Raises:
        InputError: there is no query or no document.
    """
    queries, documents = collection.queries, collection.documents
    if not queries or not len(documents):
        raise InputError(f"{collection.name}: {len(queries)} queries and {len(documents)} documents to match")
    size = min(MOST, -(-len(documents) // len(queries))) if with_documents else 1
    count = max(len(queries), -(-len(documents) // size)) if with_documents else len(queries)
    order = np.random.default_rng(SEED).permutation(len(documents))

    def rows() -> Iterator[dict]:
        """Yield the rows."""
        for number, (query, text) in enumerate(islice(cycle(queries.items()), count)):
            places = order[np.arange(number * size, (number + 1) * size) % len(documents)]
            ids = documents.ids_at(places)
            yield {"query_id": query, "query": text, "document_ids": ids, "labels": [0.0] * size}

    report = {"collection": collection.report, "lists": {"rows": count, "documents_per_query": size}}
    return RankingLists(write_rows(rows(), ROW_FEATURES), documents, report)
