"""Queries as texts → runs, by a database; and the share of the exact results among its own."""

import numpy as np

from m3se.trainers.evaluation.runs import Run
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.exact_search import search
from m3se.trainers.retrieval.hits import Hit
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.stores.document_store import DocumentStore


def retrieve_from_store(
    scorer: DenseScorer,
    queries: dict[str, str],
    store: DocumentStore,
    k: int,
    effort: int | None = None,
    encoded: EmbeddedCollection | None = None,
) -> tuple[Run, float | None]:
    """Find the best k documents of every query, and the share of the exact best k among them.

    Args:
        scorer: embeds the queries; the store's documents were embedded by it.
        queries: id → text.
        store: has the documents.
        k: documents of a query.
        effort: how much an approximate index looks at.
        encoded: the same documents' embeddings, to compare with; None: the share is not known.
    """
    vectors = scorer.encode(list(queries.values()), "query")
    answers = list(store.search(vectors, k, effort=effort))
    run: Run = {}
    for query, hits in zip(queries, answers, strict=True):
        run[query] = {hit.id: hit.score for hit in hits}
    return run, None if encoded is None else store_recall(answers, vectors, encoded)


def store_recall(answers: list[list[Hit]], vectors: np.ndarray, encoded: EmbeddedCollection) -> float:
    """Return the share of each query's exact best documents among a store's, averaged over queries.

    Args:
        answers: the store's documents for each query.
        vectors: of the queries [B, H] float32.
        encoded: the vectors of the documents that the store holds.
    """
    _, rows = search(vectors, encoded, max(map(len, answers)), progress=False)
    shares = []
    for hits, exact in zip(answers, rows, strict=True):
        names = {hit.id for hit in hits}
        shares.append(len(names.intersection(encoded.ids(exact))) / len(exact))
    return float(np.mean(shares))
