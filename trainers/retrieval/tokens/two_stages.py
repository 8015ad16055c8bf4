"""Search with ColBERT in two stages: a fast search proposes documents, MaxSim over their stored tokens ranks them."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from tqdm import tqdm

from m3se.trainers.data.bm25_ranking import BM25Ranking
from m3se.trainers.retrieval.best_scores import BestScores
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.exact_search import search
from m3se.trainers.retrieval.scorers import ColBERTScorer, DenseScorer
from m3se.trainers.retrieval.tokens.maxsim import maxsim_of_all
from m3se.trainers.retrieval.tokens.token_collection import TokenCollection


FirstStage = Callable[[list[str], int], Iterator[np.ndarray]]  # query texts, depth -> rows of the document table each
DOCUMENTS_PER_BLOCK = 512  # of the exhaustive search: 50 MB of tokens, and as many similarities for 64 queries


def bm25_stage(index: BM25Ranking) -> FirstStage:
    """Return BM25 as the first stage."""

    def propose(queries: list[str], depth: int) -> Iterator[np.ndarray]:
        """Yield the rows of each query's best documents."""
        for rows, _ in index.positions(queries, depth):
            yield rows

    return propose


def dense_stage(scorer: DenseScorer, encoded: EmbeddedCollection) -> FirstStage:
    """Return the exact search of a model that embeds a text in one vector as the first stage."""

    def propose(queries: list[str], depth: int) -> Iterator[np.ndarray]:
        """Yield the rows of each query's best documents."""
        _, rows = search(scorer.encode(queries, "query"), encoded, depth, scorer.device, progress=False)
        yield from rows

    return propose


def retrieve_in_two_stages(
    scorer: ColBERTScorer,
    queries: list[str],
    tokens: TokenCollection,
    first_stage: FirstStage,
    first_depth: int,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the best k of the documents that the first stage proposes: scores and rows [B, k], a row of −1 for none.

    Args:
        scorer: embeds the queries; the tokens were embedded by it.
        queries: texts.
        tokens: of all documents.
        first_stage: proposes documents.
        first_depth: how many of them, for each query.
        k: documents of a query.
    """
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    proposals = first_stage(queries, first_depth)
    for place, (query, candidates) in enumerate(zip(scorer.encode(queries, "query"), proposals, strict=True)):
        if len(candidates) == 0:
            continue
        candidates = np.sort(candidates)  # of equal scores the first in the table comes first
        values = score_stored(scorer, [query], *tokens.tokens(candidates))[0].numpy()
        order = np.argsort(-values, kind="stable")[:k]
        scores[place, : len(order)], rows[place, : len(order)] = values[order], candidates[order]
    return scores * scorer.scale, rows


def retrieve_from_tokens(
    scorer: ColBERTScorer, queries: list[str], tokens: TokenCollection, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score every document by its stored tokens: scores and rows of the best k [B, k]."""
    embedded = scorer.encode(queries, "query")
    best = BestScores(len(queries), k)
    with tqdm(total=len(tokens), desc="MaxSim with all", unit="document") as bar:
        for start in range(0, len(tokens), DOCUMENTS_PER_BLOCK):
            rows = np.arange(start, min(start + DOCUMENTS_PER_BLOCK, len(tokens)))
            best.update(score_stored(scorer, embedded, *tokens.tokens(rows)), start)
            bar.update(len(rows))
    scores, rows = best.result()
    return scores * scorer.scale, rows


def score_stored(
    scorer: ColBERTScorer, queries: list[np.ndarray], tokens: np.ndarray, lengths: np.ndarray
) -> torch.Tensor:
    """Score documents [B, n] by their stored tokens [T, H] and how many each has [n], without the scorer's scale."""
    query_lengths = torch.tensor(list(map(len, queries)))
    stored = torch.from_numpy(tokens), torch.from_numpy(lengths)
    return maxsim_of_all(
        torch.from_numpy(np.concatenate(queries)), query_lengths, *stored, scorer.model.config.reduction
    )
