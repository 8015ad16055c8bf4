"""A query encoder and the other model that embeds its documents, as one scorer."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from tqdm import tqdm

from m3se.trainers.retrieval.scorers import DenseScorer


class PairedScorer(DenseScorer):
    """A scorer whose documents another model embeds.

    That model is loaded when the first document has to be embedded: a search of embedded documents does without.

    Args:
        queries: embeds queries.
        load_documents: loads what embeds documents.
        document_fingerprint: that of the documents' embeddings; None: only the loaded model tells.
    """

    def __init__(
        self, queries: DenseScorer, load_documents: Callable[[], DenseScorer], document_fingerprint: str | None
    ):
        slots = queries.slots, queries.transformers
        super().__init__(self.embed_side, queries.fingerprint, queries.device, queries.scale, *slots)
        self.queries, self.load_documents = queries, load_documents
        self.document_fingerprint = document_fingerprint

    @cached_property
    def documents(self) -> DenseScorer:
        """Load what embeds documents."""
        return self.load_documents()

    def embed_side(self, texts: list[str], side: str, bar: tqdm | None) -> np.ndarray:
        """Embed texts by the model of their side: [N, H] float32."""
        return (self.documents if side == "document" else self.queries).embed(texts, side, bar)

    def side_fingerprint(self, side: str) -> str:
        """Return what identifies the embeddings of a side: of documents, what the other model's have by itself."""
        if side == "query":
            return self.fingerprint
        return self.document_fingerprint or self.documents.side_fingerprint("document")
