"""The search of a collection by the student as it is in the middle of its training."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from m3se.modeling.dual_encoder import DualEncoder
from m3se.trainers.data import DocumentTable
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.matching.text_embeddings import shared_encoding
from m3se.trainers.retrieval.embed_texts import encode_texts
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.retrieval.search import retrieve
from m3se.trainers.teacher.fingerprint import embedder_fingerprint


class StudentSearch:
    """An exact search by a student, without its dropout.

    Args:
        scorer: the student; `student_scorer` makes it.
        collection: the documents' embeddings, by the student or by the model whose documents it searches.
        progress: show a bar.
    """

    def __init__(self, scorer: DenseScorer, collection: EmbeddedCollection, progress: bool = False):
        self.scorer, self.collection, self.progress = scorer, collection, progress

    def best(self, queries: dict[str, str], k: int) -> Run:
        """Find the best k documents of every query (id → text), best first."""
        return retrieve(self.scorer, queries, self.collection, k, self.progress)


def student_scorer(model: DualEncoder, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> DenseScorer:
    """Return a student as what embeds texts; it must be in evaluation mode while it does.

    Args:
        model, tokenizer: the student.
        dtype: number format that matrices are multiplied in: float32, or bfloat16 by autocast.
    """

    def embed(texts, side, bar=None):
        """Embed texts with the weights that the model has now."""
        return encode_texts(model, tokenizer, texts, side, dtype, bar)

    return DenseScorer(embed, embedder_fingerprint(model, str(dtype)), model.device)


@contextmanager
def student_encoding(scorer: DenseScorer, documents: DocumentTable, folder: Path) -> Iterator[EmbeddedCollection]:
    """Embed a collection into a folder that is there while the block runs; all processes share the work.

    A run that was killed meanwhile goes on with the shards that it had written.

    Args:
        scorer: the student.
        documents: the texts.
        folder: where the embeddings are, under the student's fingerprint.
    """
    yield shared_encoding(scorer, documents, folder, "document")
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def evaluation_mode(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Turn dropout off in the block, and give back mode and random numbers as they were before it."""
    was_training = model.training
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.eval()
        try:
            yield
        finally:
            model.train(was_training)
            random.setstate(python)
            np.random.set_state(numpy)
