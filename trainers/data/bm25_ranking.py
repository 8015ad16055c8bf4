"""The part of BM25 that is the same wherever its index is: from scores to the best documents, in order."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.schema import Collection


logger = logging.getLogger(__name__)


class BM25Ranking:
    """Lucene's BM25 over a document table; a `CandidateSource`. Its two kinds differ in where the index is.

    Attributes:
        name: for reports.
        documents: the texts.
    """

    ranker = "BM25"
    is_ranked = True
    name: str
    documents: DocumentTable

    def search(self, queries: Sequence[str], depth: int) -> tuple[list[list[str]], list[list[float]]]:
        """Return ids and scores of each query's best documents, best first, at most `depth`; ties in table order.

        Documents that share no word with the query are no candidates, so a list may be shorter, even empty.
        """
        ids, scores = [], []
        for positions, values in self.positions(queries, depth):
            ids.append(self.documents.ids_at(positions))
            scores.append(values.tolist())
        return ids, scores

    def ranked(
        self, collection: Collection, queries: list[str], depth: int
    ) -> Iterator[tuple[str, list[str], list[float]]]:
        """Yield (query id, ids of its best documents, their scores); warn of queries that nothing was found for."""
        without: list[str] = []
        matches = self.positions(list(map(collection.queries.__getitem__, queries)), depth)
        for query, (positions, scores) in zip(queries, matches, strict=True):
            if len(positions) == 0:
                without.append(query)
            yield query, self.documents.ids_at(positions), scores.tolist()
        if without:
            logger.warning(
                "BM25 found nothing for %d of %d queries (%s): no document has a word of theirs (stop words count for "
                "nothing). Texts without spaces, such as Chinese, Japanese or Thai, need --bm25_tokenizer characters",
                len(without),
                len(queries),
                ", ".join(without[:3]) + (", …" if len(without) > 3 else ""),
            )

    def scores(self, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> Iterator[list[float]]:
        """Yield the scores of the documents listed for each query, by id; 0 for one that shares no word with it."""
        raise NotImplementedError

    def positions(self, queries: Sequence[str], depth: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, as `search` finds them, row numbers in the document table (int64) and scores (float32) per query."""
        raise NotImplementedError


def best_scores(scores: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and values of the `depth` highest scores above 0, equal ones in the order of the table."""
    positions = np.flatnonzero(scores > 0)
    if len(positions) > depth:
        lowest = np.partition(scores[positions], -depth)[-depth]
        positions = positions[scores[positions] >= lowest]
    order = np.lexsort((positions, -scores[positions]))[:depth]
    return positions[order], scores[positions[order]]
