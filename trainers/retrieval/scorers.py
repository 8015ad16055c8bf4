"""Any model as a function from texts to scores, for re-ranking and for score matrices.

A scorer has two methods. `score_lists(lists, progress)` gives one list of scores per row of `RankingLists`, in the
order of the row's `document_ids`. `score_matrix(queries, documents)` gives the scores [B, N] of every pair. Larger is
better, on the model's own scale.
"""

from collections.abc import Callable
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from m3se.modeling.colbert import ColBERT
from m3se.trainers.data import RankingLists
from m3se.trainers.retrieval.embed_texts import tokenized
from m3se.trainers.teacher.pair_scorer import PairScorer


PAIRS_PER_CALL = 4_096
TOKEN_EMBEDDED = 1_024  # documents whose token embeddings are in memory: 200 KB each at 200 tokens of 256 numbers
IDS_PER_CALL = 16_384
Encode = Callable[[list[str], str, tqdm | None], np.ndarray]  # texts, "query" or "document", bar -> [N, H] float32


class Scorer(Protocol):
    """Whatever scores documents for queries."""

    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]:
        """A score for every document of every row, in their order."""

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        """Every document scored for every query: [Q, D] float32."""


class DenseScorer:
    """Scores by inner product of embeddings; each distinct query and document is embedded once.

    `fingerprint` identifies whatever decides an embedding: two scorers with the same one may share what is cached.
    """

    def __init__(self, encode: Encode, fingerprint: str, device: torch.device):
        self.encode = encode
        self.fingerprint = fingerprint
        self.device = device

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
            while some := take_rows(rows, PAIRS_PER_CALL):
                queries = [row["query"] for row in some for _ in row["document_ids"]]
                names = [name for row in some for name in row["document_ids"]]
                values = self.pairs.score(queries, lists.documents.texts(names), bar=bar)
                scores += split_like(values, some)
        return scores

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        repeated = [query for query in queries for _ in documents]
        scores = self.pairs.score(repeated, documents * len(queries), progress=False)
        return scores.reshape(len(queries), len(documents))


class ColBERTScorer:
    """Scores by MaxSim; the documents of some rows at a time are embedded, token by token."""

    def __init__(self, model: ColBERT, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype):
        self.model = model
        self.tokenizer = tokenizer
        self.dtype = dtype

    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]:
        total = sum(len(row["document_ids"]) for row in lists.rows)
        scores: list[list[float]] = []
        with tqdm(total=total, desc="scoring pairs", unit="pair", disable=not progress) as bar:
            rows = iter(lists.rows)
            while some := take_rows(rows, TOKEN_EMBEDDED):
                places = {name: i for i, name in enumerate(dict.fromkeys(d for r in some for d in r["document_ids"]))}
                pairs = [(query, places[name]) for query, row in enumerate(some) for name in row["document_ids"]]
                values = self._score([row["query"] for row in some], lists.documents.texts(list(places)), pairs)
                scores += split_like(values, some)
                bar.update(len(pairs))
        return scores

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        blocks = []
        for start in range(0, len(documents), TOKEN_EMBEDDED):
            block = documents[start : start + TOKEN_EMBEDDED]
            pairs = [(query, document) for query in range(len(queries)) for document in range(len(block))]
            blocks.append(self._score(queries, block, pairs).reshape(len(queries), len(block)))
        return np.concatenate(blocks, axis=1)

    @torch.inference_mode()
    def _score(self, queries: list[str], documents: list[str], pairs: list[tuple[int, int]]) -> np.ndarray:
        config, device = self.model.config, self.model.device
        embedded = []
        with torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            for texts, length, side in (
                (queries, config.query_length, "query"),
                (documents, config.document_length, "document"),
            ):
                ids, mask = tokenized(self.tokenizer, texts, length)
                embedded += self.model.embed_in_blocks(ids.to(device), mask.to(device), side)
        rows = torch.tensor(pairs, device=device).T
        return self.model.score_pairs(*embedded, *rows).cpu().numpy()


def inner_products(query: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """[H] and [K, H] -> [K] float32, added up in float64: a list's scores do not depend on its length or order."""
    return (documents.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)


def split_like(values: np.ndarray, rows: list[dict]) -> list[list[float]]:
    """Scores [sum of K] of the documents of some rows, one after the other -> one list per row."""
    remaining = iter(values.tolist())
    return [list(islice(remaining, len(row["document_ids"]))) for row in rows]


def take_rows(rows, pairs: int) -> list[dict]:
    """The next rows of an iterator, up to at least `pairs` documents."""
    some: list[dict] = []
    while sum(len(row["document_ids"]) for row in some) < pairs and (row := next(rows, None)) is not None:
        some.append(row)
    return some
