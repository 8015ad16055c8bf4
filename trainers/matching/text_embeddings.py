"""Embeddings of the texts of ranking lists by another model: made once, memory-mapped, looked up by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import encode_into_cache
from m3se.trainers.retrieval.scorers import DenseScorer


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings by another model of the documents of a table and, where they are asked for, of queries.

    Attributes:
        documents: in the order of the document table.
        queries: in the order of `query_texts`; None: only documents were embedded.
        query_texts: distinct queries, each with its own text as id.
    """

    documents: EmbeddedCollection
    queries: EmbeddedCollection | None = None
    query_texts: DocumentTable | None = None

    def document_vectors(self, positions: Sequence[int]) -> Tensor:
        """Return the embeddings [N, H] float32 of documents by their position in the table."""
        return torch.from_numpy(self.documents.embeddings(torch.tensor(positions, dtype=torch.long).numpy()))

    def query_vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings [B, H] float32 of queries; raises InputError for one that was not embedded."""
        if self.queries is None or self.query_texts is None:
            raise InputError("the teacher's embeddings are of documents only")
        return torch.from_numpy(self.queries.embeddings(self.query_texts.positions(texts)))

    def check_table(self, table: DocumentTable) -> None:
        """Raise InputError when these are embeddings of other documents than the table's."""
        if self.documents.description["collection"] != table.fingerprint:
            raise InputError(f"{self.documents.folder}: these are embeddings of other documents")


def embed_lists(
    scorer: DenseScorer, lists: RankingLists, cache_dir: str | Path, with_queries: bool = True
) -> TextEmbeddings:
    """Open the embeddings of the document table and queries of lists in the cache, after making those missing there.

    All processes of a launch call it, and share the work. Documents are cached as for a search by the same model.

    Args:
        scorer: embeds the texts.
        lists: their rows have the queries.
        cache_dir: where embeddings are kept, under the fingerprints of the model and the texts.
        with_queries: embed the queries too.
    """
    documents = shared_encoding(scorer, lists.documents, cache_dir, "document")
    if not with_queries:
        return TextEmbeddings(documents)
    texts = list(dict.fromkeys(lists.rows["query"]))
    table = DocumentTable.from_texts(texts, texts)
    return TextEmbeddings(documents, shared_encoding(scorer, table, cache_dir, "query"), table)


def shared_encoding(scorer: DenseScorer, texts: DocumentTable, cache_dir: str | Path, side: str) -> EmbeddedCollection:
    """Open texts as a model embeds them, in the cache; each process of the launch encodes its share of those missing.

    Args:
        scorer: embeds the texts.
        texts: of one side.
        cache_dir: where the embeddings are kept.
        side: "query" or "document".
    """
    if not dist.is_initialized():
        return EmbeddedCollection(encode_into_cache(scorer, texts, cache_dir, side))
    folder = encode_into_cache(scorer, texts, cache_dir, side, dist.get_rank(), dist.get_world_size())
    dist.barrier()
    return EmbeddedCollection(folder)
