"""Scorers: models that embed texts, score documents for a query and rank them, from plain strings.

`load_scorer` makes the right one for a model. Larger scores are better, on the model's own scale.

    >>> from m3se import load_scorer
    >>> scorer = load_scorer("org/de-m3se")
    >>> scorer.rank("how tall is a giraffe", ["Giraffes are 5 m tall.", "Ostriches lay eggs."], top_k=1)
    [Ranked(index=0, score=91.4, text='Giraffes are 5 m tall.')]
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from m3se.modeling.colbert import ColBERT
from m3se.trainers.data import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.models.text_inputs import TextInputs
from m3se.trainers.retrieval.list_batches import document_positions, pair_bar, split_like, take_rows
from m3se.trainers.retrieval.tokens.maxsim import maxsim_of_all
from m3se.trainers.teacher.pair_scorer import PairScorer


PAIRS_PER_CALL = 4_096
TOKEN_EMBEDDED = 1_024  # documents whose token embeddings are in memory: 200 KB each at 200 tokens of 256 numbers
IDS_PER_CALL = 16_384
Slots = Sequence[tuple[object, str]]
SIDES = ("query", "document")
Embed = Callable[[list[str], str, tqdm | None], np.ndarray]  # texts, "query" or "document", bar -> [N, H] float32


class Ranked(NamedTuple):
    """A document of a ranking: its place in the list that was ranked, its score and its text."""

    index: int
    score: float
    text: str


class Scorer(ABC):
    """A model that scores documents for queries.

    Attributes:
        fingerprint: identifies whatever decides a score or an embedding.
        slots: where its transformers are, each as an object and the name of an attribute; none if they cannot be
            exchanged for others that compute the same. A dual encoder's are its sides, pooling included.
    """

    fingerprint: str
    slots: Slots = ()

    @abstractmethod
    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]:
        """Score every document of every row of the lists, in their order."""

    @abstractmethod
    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        """Score every document for every query: [Q, D] float32."""

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """Score each of the documents for one query, in their order."""
        texts = checked_texts(documents, "document")
        return self.score_matrix([query], texts)[0].tolist() if texts else []

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[Ranked]:
        """Return the documents by falling score, the best `top_k` of them if that is given.

        Of equal scores the earlier document comes first.
        """
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k: expected 1 or more, got {top_k}")
        scores = self.score(query, documents)
        order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
        return [Ranked(index, scores[index], documents[index]) for index in order[:top_k]]


class DenseScorer(Scorer):
    """A scorer by inner products of embeddings, times a scale; each distinct query and document is embedded once.

    Embeddings are without the scale: their inner products rank alike, and searches report those.

    Args:
        embed: gives the embeddings [N, H] float32 of texts, called as `embed(texts, side, bar)`.
        fingerprint: identifies whatever decides an embedding. Two scorers with the same one may share a cache.
        device: the processor that the model runs on.
        scale: factor on all scores.
        slots: as in `Scorer`.
        transformers: slots of the transformers alone, for files that others read (default: `slots`).
    """

    def __init__(
        self,
        embed: Embed,
        fingerprint: str,
        device: torch.device,
        scale: float = 1.0,
        slots: Slots = (),
        transformers: Slots | None = None,
    ):
        self.embed = embed
        self.fingerprint = fingerprint
        self.device = device
        self.scale = scale
        self.slots = slots
        self.transformers = slots if transformers is None else transformers

    def side_fingerprint(self, side: str) -> str:
        """Return what identifies the embeddings of a side ("query" or "document"), which caches are found by."""
        return self.fingerprint

    def encode(self, texts: Sequence[str], side: str, bar: tqdm | None = None) -> np.ndarray:
        """Embed texts as queries or as documents: [N, H] float32. `bar` is advanced by one per text.

        Args:
            side: "query" or "document".
        """
        return self.embed(checked_texts(texts, side), side, bar)

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """Score each of the documents for one query, as `score_lists` does."""
        texts = checked_texts(documents, "document")
        if not texts:
            return []
        products = inner_products(self.encode([query], "query")[0], self.encode(texts, "document"))
        return (products * self.scale).tolist()

    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]:
        """Score every document of every row of the lists, in their order."""
        rows = lists.rows
        positions = document_positions(rows)
        names = list(positions)
        with tqdm(total=len(names) + len(rows), desc="embedding", unit="text", disable=not progress) as bar:
            queries = self.encode(rows["query"][:], "query", bar)
            chunks = []
            for start in range(0, len(names), IDS_PER_CALL):
                texts = lists.documents.texts(names[start : start + IDS_PER_CALL])
                chunks.append(self.encode(texts, "document", bar))
        documents = np.concatenate(chunks)
        scores = []
        for query, row in zip(queries, rows, strict=True):
            places = [positions[name] for name in row["document_ids"]]
            scores.append((inner_products(query, documents[places]) * self.scale).tolist())
        return scores

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        """Score every document for every query: [Q, D] float32."""
        return self.encode(queries, "query") @ self.encode(documents, "document").T * self.scale


class PairwiseScorer(Scorer):
    """A scorer that reads pair by pair with a cross-encoder."""

    def __init__(self, pairs: PairScorer):
        self.pairs = pairs
        self.slots = [(pairs, "classifier")] if pairs.kind == PairScorer.kind else ()

    @property
    def fingerprint(self) -> str:
        """Return what identifies the cross-encoder."""
        return self.pairs.fingerprint

    @fingerprint.setter
    def fingerprint(self, fingerprint: str) -> None:
        """Say what identifies the cross-encoder from now on."""
        self.pairs.fingerprint = fingerprint

    def encode(self, texts: Sequence[str], side: str, bar: tqdm | None = None) -> np.ndarray:
        """Raise InputError: a cross-encoder has no embedding of a text alone."""
        raise InputError(
            f"{self.pairs.name} is a cross-encoder, which reads query and document together and embeds neither: "
            "use score or rank"
        )

    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]:
        """Score every document of every row of the lists, in their order."""
        scores: list[list[float]] = []
        with pair_bar(lists, progress) as bar:
            rows = iter(lists.rows)
            while batch := take_rows(rows, PAIRS_PER_CALL):
                queries, names = [], []
                for row in batch:
                    queries += [row["query"]] * len(row["document_ids"])
                    names += row["document_ids"]
                scores += split_like(self.pairs.score(queries, lists.documents.texts(names), bar=bar), batch)
        return scores

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        """Score every document for every query: [Q, D] float32."""
        repeated = [query for query in queries for _ in documents]
        scores = self.pairs.score(repeated, documents * len(queries), progress=False)
        return scores.reshape(len(queries), len(documents))


class ColBERTScorer(Scorer):
    """A scorer by MaxSim; the documents of some rows at a time are embedded, token by token."""

    def __init__(self, model: ColBERT, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, fingerprint: str):
        self.model = model
        self.fingerprint = fingerprint
        self.inputs = TextInputs.for_model(tokenizer, model.config)
        self.dtype = dtype
        self.slots = [(model, "encoder")]
        self.scale = model.reached_scale()

    def encode(self, texts: Sequence[str], side: str, bar: tqdm | None = None) -> list[np.ndarray]:
        """Embed the tokens of texts as queries or as documents: one array [T, H] float32 per text.

        An array holds the tokens that are compared: marker and [MASK] tokens included, skipped words left out.
        `bar` is advanced by one per text.

        Args:
            side: "query" or "document".
        """
        texts = checked_texts(texts, side)
        arrays: list[np.ndarray] = []
        for start in range(0, len(texts), TOKEN_EMBEDDED):
            embeddings, mask = self._embed(texts[start : start + TOKEN_EMBEDDED], side)
            for tokens, compared in zip(embeddings, mask, strict=True):
                arrays.append(tokens[compared].cpu().numpy())
            if bar is not None:
                bar.update(len(mask))
        return arrays

    def score_lists(self, lists: RankingLists, progress: bool = True) -> list[list[float]]:
        """Score every document of every row of the lists, in their order."""
        scores: list[list[float]] = []
        with pair_bar(lists, progress) as bar:
            rows = iter(lists.rows)
            while batch := take_rows(rows, TOKEN_EMBEDDED):
                positions = document_positions(batch)
                queries, pairs = [], []
                for query, row in enumerate(batch):
                    queries.append(row["query"])
                    pairs += [(query, positions[name]) for name in row["document_ids"]]
                scores += split_like(self.score_pairs(queries, lists.documents.texts(list(positions)), pairs), batch)
                bar.update(len(pairs))
        return scores

    def score_matrix(self, queries: list[str], documents: list[str]) -> np.ndarray:
        """Score every document for every query: [Q, D] float32."""
        query_tokens = self._embed_tokens(queries, "query")
        blocks = []
        for start in range(0, len(documents), TOKEN_EMBEDDED):
            tokens = self._embed_tokens(documents[start : start + TOKEN_EMBEDDED], "document")
            blocks.append(maxsim_of_all(*query_tokens, *tokens, self.model.config.reduction))
        return torch.cat(blocks, dim=1).cpu().numpy() * self.scale

    def _embed_tokens(self, texts: list[str], side: str) -> tuple[Tensor, Tensor]:
        """Return the tokens that are compared, one behind the other [T, H] float32, and how many a text has [N]."""
        embeddings, mask = self._embed(texts, side)
        return embeddings[mask], mask.sum(dim=1)

    @torch.inference_mode()
    def _embed(self, texts: list[str], side: str) -> tuple[Tensor, Tensor]:
        """Return token embeddings [N, T, H] float32 and the mask [N, T] of the tokens that are compared."""
        device = self.model.device
        ids, mask = self.inputs(texts, side)
        with torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            return self.model.embed_in_blocks(ids.to(device), mask.to(device), side)

    @torch.inference_mode()
    def score_pairs(self, queries: list[str], documents: list[str], pairs: list[tuple[int, int]]) -> np.ndarray:
        """Score the given pairs (place in `queries`, place in `documents`): [P] float32."""
        rows = torch.tensor(pairs, device=self.model.device).T
        embedded = (*self._embed(queries, "query"), *self._embed(documents, "document"))
        return self.model.score_pairs(*embedded, *rows).cpu().numpy()


def checked_texts(texts: Sequence[str], side: str) -> list[str]:
    """Return texts as a list. Raises InputError for one string in place of a list, and for an unknown side."""
    if isinstance(texts, str):
        raise InputError(f"expected a list of texts, got the one text {texts[:50]!r}: put it in a list")
    if side not in SIDES:
        raise InputError(f"side: expected {' or '.join(SIDES)}, got {side!r}")
    return list(texts)


def inner_products(query: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Multiply [H] and [K, H] to [K] float32, added up in float64: a list's scores do not depend on its length or
    order."""
    return (documents.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
