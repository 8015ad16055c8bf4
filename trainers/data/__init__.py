"""Formats → one schema: readers, the document table, candidates, ranking lists, the embedded collection."""

from m3se.trainers.data.bm25 import BM25Index
from m3se.trainers.data.candidates import OwnCandidates, RandomCandidates, RunFile, candidate_source
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.filters import ScoreFilters
from m3se.trainers.data.lists import candidate_lists, teacher_lists, training_lists
from m3se.trainers.data.mining import mine_negatives
from m3se.trainers.data.pydocs.pydocs import read_pydocs
from m3se.trainers.data.readers import read_data, read_documents
from m3se.trainers.data.readers.list_files import write_scored_triples
from m3se.trainers.data.relevance import lists_relevant_from, relevant_from
from m3se.trainers.data.schema import ROW_FEATURES, SCORED_ROW_FEATURES, Collection, RankingLists, hash_subset
from m3se.trainers.data.selection import Selection, choose_documents, label_best
from m3se.trainers.data.united import LaterCandidates, UnitedCandidates


__all__ = [
    "ROW_FEATURES",
    "SCORED_ROW_FEATURES",
    "BM25Index",
    "Collection",
    "DocumentTable",
    "OwnCandidates",
    "RandomCandidates",
    "RankingLists",
    "RunFile",
    "candidate_lists",
    "candidate_source",
    "LaterCandidates",
    "ScoreFilters",
    "Selection",
    "UnitedCandidates",
    "choose_documents",
    "hash_subset",
    "label_best",
    "lists_relevant_from",
    "mine_negatives",
    "read_data",
    "read_documents",
    "read_pydocs",
    "relevant_from",
    "teacher_lists",
    "training_lists",
    "write_scored_triples",
]
