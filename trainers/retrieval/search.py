"""Queries as texts → runs of a collection, or scores of lists: by its embeddings, a FAISS index, or pair by pair."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from datasets import Dataset
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.retrieval.best_scores import BestScores
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.exact_search import search
from m3se.trainers.retrieval.faiss_index import open_index, recall_against, search_index
from m3se.trainers.retrieval.scorers import DenseScorer, Scorer, inner_products


def encoded_scores(
    scorer: DenseScorer, encoded: EmbeddedCollection, documents: DocumentTable, rows: Dataset
) -> Iterator[list[float]]:
    """Yield the scores of each row's documents, from the embeddings that the collection has already.

    Args:
        scorer: embeds the queries.
        encoded: the collection, embedded by the same model.
        documents: the table that was embedded.
        rows: queries and ids of documents.
    """
    queries = scorer.encode(rows["query"][:], "query")
    for query, ids in zip(queries, rows["document_ids"], strict=True):
        embeddings = encoded.embeddings(documents.positions(ids))
        yield (scorer.scale * inner_products(query, embeddings)).tolist()


def retrieve(
    scorer: DenseScorer, queries: dict[str, str], collection: EmbeddedCollection, k: int, progress: bool = True
) -> Run:
    """Find the best k documents of every query, best first.

    Args:
        scorer: embeds the queries; the collection was embedded by it.
        queries: id → text.
        collection: the documents' embeddings.
        k: documents of a query.
        progress: show a bar.
    """
    embeddings = scorer.encode(list(queries.values()), "query", None)
    scores, rows = search(embeddings, collection, k, scorer.device, progress)
    return run_from_rows(list(queries), scores, rows, collection.ids)


def retrieve_by_index(
    scorer: DenseScorer,
    queries: dict[str, str],
    collection: EmbeddedCollection,
    k: int,
    factory: str,
    probes: int | None = None,
) -> tuple[Run, float]:
    """Find the best k documents of every query with a FAISS index, and the share of the exact best k among them.

    Args:
        scorer: embeds the queries; the collection was embedded by it.
        queries: id → text.
        collection: the documents' embeddings.
        k: documents of a query.
        factory: FAISS factory string of the index.
        probes: cells of an IVF index to look at; None: its default.

    Raises:
        InputError: the index cannot be built or searched in this way.
    """
    index = open_index(collection, factory)
    embeddings = scorer.encode(list(queries.values()), "query", None)
    scores, rows = search_index(index, embeddings, k, probes)
    _, exact = search(embeddings, collection, k, scorer.device)
    return run_from_rows(list(queries), scores, rows, collection.ids), recall_against(exact, rows)


def retrieve_by_scoring(
    scorer: Scorer, queries: dict[str, str], documents: DocumentTable, k: int, block_size: int = 4_096
) -> Run:
    """Find the best k documents of every query with a model that cannot embed a document in one vector.

    Args:
        scorer: scores every pair.
        queries: id → text.
        documents: the texts to search.
        k: documents of a query.
        block_size: documents that are scored at a time.
    """
    best = BestScores(len(queries), k)
    with tqdm(total=len(documents), desc="scoring all", unit="document") as bar:
        for ids, texts in documents.batches(block_size):
            scores = scorer.score_matrix(list(queries.values()), texts)
            best.update(torch.from_numpy(scores), bar.n)
            bar.update(len(ids))
    return run_from_rows(list(queries), *best.result(), documents.ids_at)


def run_from_rows(
    queries: list[str], scores: np.ndarray, rows: np.ndarray, ids: Callable[[np.ndarray], list[str]]
) -> Run:
    """Return scores and rows [B, k] as a run; `ids` gives the document ids of rows. A row of −1 is no document."""
    distinct = np.unique(rows[rows >= 0])
    names = dict(zip(distinct.tolist(), ids(distinct), strict=True))
    run: Run = {}
    for query, values, matches in zip(queries, scores.tolist(), rows.tolist(), strict=True):
        run[query] = {names[row]: score for row, score in zip(matches, values, strict=True) if row >= 0}
    return run
