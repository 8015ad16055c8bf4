"""Formats → one schema: readers, the document table, candidates, ranking lists, the embedded collection.

A name's module is imported when the name is first used: whoever searches documents needs no BM25.
"""

from m3se.trainers import lazy_names


MODULES = {
    "BM25Index": "bm25",
    "OwnCandidates": "candidates",
    "RandomCandidates": "candidates",
    "RunFile": "candidates",
    "candidate_source": "candidates",
    "DocumentTable": "documents",
    "ScoreFilters": "filters",
    "candidate_lists": "lists",
    "teacher_lists": "lists",
    "training_lists": "lists",
    "mine_negatives": "mining",
    "read_pydocs": "pydocs.pydocs",
    "read_data": "readers.read_data",
    "read_documents": "readers.read_data",
    "write_scored_triples": "readers.list_files",
    "labelled_only": "relevance",
    "lists_relevant_from": "relevance",
    "relevant_from": "relevance",
    "ROW_FEATURES": "schema",
    "SCORED_ROW_FEATURES": "schema",
    "Collection": "schema",
    "RankingLists": "schema",
    "hash_subset": "schema",
    "Selection": "selection",
    "choose_documents": "selection",
    "label_best": "selection",
    "LaterCandidates": "united",
    "UnitedCandidates": "united",
}
__all__ = list(MODULES)
__getattr__ = lazy_names(__name__, MODULES)
