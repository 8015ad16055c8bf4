"""Formats → one schema: readers, the document table, BM25 candidates, ranking lists, the embedded collection."""

from trainers.data.bm25 import BM25Index
from trainers.data.candidates import candidate_lists, training_lists
from trainers.data.documents import DocumentTable
from trainers.data.pydocs import read_pydocs
from trainers.data.readers import read_data
from trainers.data.schema import ROW_FEATURES, SCORED_ROW_FEATURES, Collection, RankingLists


__all__ = [
    "ROW_FEATURES",
    "SCORED_ROW_FEATURES",
    "BM25Index",
    "Collection",
    "DocumentTable",
    "RankingLists",
    "candidate_lists",
    "read_data",
    "read_pydocs",
    "training_lists",
]
