"""Models as scorers, embedded collections, and the search of them."""

from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection, encode_collection
from m3se.trainers.retrieval.loading import load_embedder, load_scorer
from m3se.trainers.retrieval.scorers import DenseScorer, Ranked, Scorer
from m3se.trainers.retrieval.search import retrieve


__all__ = [
    "DenseScorer",
    "EmbeddedCollection",
    "Ranked",
    "Scorer",
    "encode_collection",
    "load_embedder",
    "load_scorer",
    "retrieve",
]
