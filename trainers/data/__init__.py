"""Formats → one schema: readers, the document table, candidates, ranking lists, the embedded collection."""

from trainers.data.bm25 import BM25Index
from trainers.data.candidates import candidate_lists, pooled_lists, training_lists
from trainers.data.documents import DocumentTable
from trainers.data.grouping import sample_row, teacher_lists
from trainers.data.list_files import write_scored_triples
from trainers.data.mining import mine_negatives
from trainers.data.pydocs import read_pydocs
from trainers.data.readers import read_data
from trainers.data.schema import ROW_FEATURES, SCORED_ROW_FEATURES, Collection, RankingLists
from trainers.data.sources import OwnCandidates, RandomCandidates, candidate_source


__all__ = [
    "ROW_FEATURES",
    "SCORED_ROW_FEATURES",
    "BM25Index",
    "Collection",
    "DocumentTable",
    "OwnCandidates",
    "RandomCandidates",
    "RankingLists",
    "candidate_lists",
    "candidate_source",
    "mine_negatives",
    "pooled_lists",
    "read_data",
    "read_pydocs",
    "sample_row",
    "teacher_lists",
    "training_lists",
    "write_scored_triples",
]
