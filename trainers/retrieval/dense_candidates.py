"""Candidates by the embeddings of a model: what its own search finds for a query."""

from collections.abc import Iterator

from m3se.trainers.data.candidates import RankedList
from m3se.trainers.data.schema import Collection
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.retrieval.search import retrieve


QUERIES_AT_ONCE = 10_000  # so that memory does not grow with the number of queries


class DenseCandidates:
    """The documents nearest to a query, best first; a `CandidateSource`.

    Args:
        scorer: embeds the queries.
        encoded: the collection, embedded by the same model.
        name: of the model, for reports.
    """

    is_ranked = True

    def __init__(self, scorer: DenseScorer, encoded: EmbeddedCollection, name: str):
        self.name = self.ranker = name
        self._scorer, self._encoded = scorer, encoded

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[RankedList]:
        """Yield the best `depth` documents of every query id, with their scores."""
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            block = {query: collection.queries[query] for query in queries[start : start + QUERIES_AT_ONCE]}
            for query, scores in retrieve(self._scorer, block, self._encoded, depth).items():
                yield RankedList(query, list(scores), list(scores.values()))
