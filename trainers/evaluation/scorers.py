"""Any model as a function from texts to scores, for re-ranking and for score matrices.

A scorer has two methods. `score_lists(lists, progress)` gives one list of scores per row of `RankingLists`, in the
order of the row's `document_ids`. `score_matrix(queries, documents)` gives the scores [B, N] of every pair. Larger is
better, on the model's own scale.
"""

from collections.abc import Callable
from itertools import islice
from typing import Protocol

import numpy as np
from tqdm import tqdm

from trainers.data import RankingLists
from trainers.teacher import PairScorer


PAIRS_PER_CALL = 4_096
IDS_PER_CALL = 16_384
Encode = Callable[[list[str], str, tqdm | None], np.ndarray]  # texts, "query" or "document", bar -> [N, H] float32


class Scorer(Protocol):
    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]: ...

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray: ...


class DenseScorer:
    """Scores by inner product of embeddings; each distinct query and document is embedded once."""

    def __init__(self, encode: Encode):
        self.encode = encode

    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]:
        rows = lists.rows
        positions = {name: i for i, name in enumerate(dict.fromkeys(d for row in rows for d in row["document_ids"]))}
        names = list(positions)
        total = len(names) + len(rows)
        with tqdm(total=total, desc="embedding", unit="text", disable=not progress) as bar:
            queries = self.encode(rows["query"][:], "query", bar)
            chunks = [names[start : start + IDS_PER_CALL] for start in range(0, len(names), IDS_PER_CALL)]
            documents = [self.encode(lists.documents.texts(chunk), "document", bar) for chunk in chunks]
        documents = np.concatenate(documents)
        return [
            inner_products(query, documents[[positions[name] for name in row["document_ids"]]]).tolist()
            for query, row in zip(queries, rows, strict=True)
        ]

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        return self.encode(queries, "query", None) @ self.encode(documents, "document", None).T


class PairwiseScorer:
    """Scores pair by pair with a cross-encoder."""

    def __init__(self, pairs: PairScorer):
        self.pairs = pairs

    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]:
        total = sum(len(row["document_ids"]) for row in lists.rows)
        scores: list[list[float]] = []
        with tqdm(total=total, desc="scoring pairs", unit="pair", disable=not progress) as bar:
            rows = iter(lists.rows)
            while some := rows_of_pairs(rows, PAIRS_PER_CALL):
                queries = [row["query"] for row in some for _ in row["document_ids"]]
                names = [name for row in some for name in row["document_ids"]]
                values = iter(self.pairs.score(queries, lists.documents.texts(names), progress=False).tolist())
                scores += [list(islice(values, len(row["document_ids"]))) for row in some]
                bar.update(len(names))
        return scores

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        repeated = [query for query in queries for _ in documents]
        scores = self.pairs.score(repeated, documents * len(queries), progress=False)
        return scores.reshape(len(queries), len(documents))


def inner_products(query: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """[H] and [K, H] -> [K] float32, added up in float64: a list's scores do not depend on its length or order."""
    return (documents.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)


def rows_of_pairs(rows, pairs: int) -> list[dict]:
    """The next rows of an iterator, up to at least `pairs` documents."""
    some: list[dict] = []
    while sum(len(row["document_ids"]) for row in some) < pairs and (row := next(rows, None)) is not None:
        some.append(row)
    return some
