"""Embedded documents → a store: only those that it lacks, so that a run that was killed is completed by the next."""

import numpy as np
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.stores.document_store import DocumentStore


DOCUMENTS_PER_BLOCK = 1_000


def fill_store(store: DocumentStore, documents: DocumentTable, encoded: EmbeddedCollection) -> int:
    """Put the documents into the store that it lacks or has with another text; return how many these were.

    Args:
        store: of the model that embedded them.
        documents: the texts.
        encoded: their vectors, in the same order.
    """
    written, first = 0, 0
    with tqdm(total=len(documents), desc="storing", unit="document") as bar:
        for ids, texts in documents.batches(DOCUMENTS_PER_BLOCK):
            places = store.lacking(ids, texts)
            if places:
                vectors = encoded.embeddings(first + np.array(places))
                chosen_ids = list(map(ids.__getitem__, places))
                store.put(chosen_ids, list(map(texts.__getitem__, places)), vectors)
            written += len(places)
            first += len(ids)
            bar.update(len(ids))
    if written:
        store.finish()
    return written
