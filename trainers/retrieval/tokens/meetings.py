"""The document token that each query token meets in MaxSim: a score of ColBERT, explained."""

from typing import NamedTuple

import numpy as np
import torch

from m3se.trainers.retrieval.scorers import ColBERTScorer


class Meeting(NamedTuple):
    """A query token, the document token that is most similar to it, and their similarity times the scale."""

    query_token: str
    document_token: str
    similarity: float


class EmbeddedText(NamedTuple):
    """The compared tokens of a text, as its tokenizer writes them, and their embeddings [T, H] float32."""

    tokens: list[str]
    embeddings: np.ndarray


def token_meetings(scorer: ColBERTScorer, query: str, documents: list[str]) -> list[list[Meeting]]:
    """Return the meetings of a query with each document, in the order of the query; none where either has no token.

    Their similarities add up to the score of a model that sums, and have it as their mean otherwise.
    """
    (query_part,) = embed_tokens(scorer, [query], "query")
    meetings = []
    for document_part in embed_tokens(scorer, documents, "document"):
        meetings.append(meet(query_part, document_part, scorer.scale))
    return meetings


def meet(query: EmbeddedText, document: EmbeddedText, scale: float) -> list[Meeting]:
    """Find the most similar token of a document for each token of a query."""
    if not query.tokens or not document.tokens:
        return []
    similarities = query.embeddings @ document.embeddings.T  # [Q, D]
    meetings = []
    for token, row in zip(query.tokens, similarities, strict=True):
        best = int(row.argmax())
        meetings.append(Meeting(token, document.tokens[best], float(row[best]) * scale))
    return meetings


@torch.inference_mode()
def embed_tokens(scorer: ColBERTScorer, texts: list[str], side: str) -> list[EmbeddedText]:
    """Embed the compared tokens of texts.

    Args:
        scorer: embeds them.
        texts: queries or documents.
        side: "query" or "document".
    """
    model, device = scorer.model, scorer.model.device
    ids, mask = (part.to(device) for part in scorer.inputs(texts, side))
    prepared, attention_mask, present = model.prepare(ids, mask, side)
    with torch.autocast(device.type, dtype=scorer.dtype, enabled=scorer.dtype != torch.float32):
        embeddings = model.token_embeddings(prepared, attention_mask)
    embedded = []
    for row, vectors, compared in zip(prepared, embeddings, model.compared(prepared, present, side), strict=True):
        tokens = scorer.inputs.tokenizer.convert_ids_to_tokens(row[compared].tolist())
        embedded.append(EmbeddedText(tokens, vectors[compared].cpu().numpy()))
    return embedded
