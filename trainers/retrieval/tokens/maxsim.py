"""MaxSim of every query with every document, by one matrix product for many of them."""

import torch
from torch import Tensor

from m3se.modeling.scoring import chunk_numbers


@torch.inference_mode()
def maxsim_of_all(
    queries: Tensor, query_lengths: Tensor, documents: Tensor, document_lengths: Tensor, reduction: str
) -> Tensor:
    """Score all documents for all queries: [B, N] float32; −inf for a document without a token.

    Token embeddings lie one behind the other, without padding, so that nothing is compared that does not count.

    Args:
        queries, query_lengths: tokens of all queries [S, H] float32, and how many each has [B], at least one.
        documents, document_lengths: tokens of all documents [T, H] float32, and how many each has [N].
        reduction: "mean" or "sum" over the query's tokens.
    """
    size = max(1, chunk_numbers(documents.device) // max(1, len(documents) * int(query_lengths.max())))
    scores = []
    for lengths in query_lengths.split(size):
        chunk, queries = queries.tensor_split([int(lengths.sum())])
        best = torch.segment_reduce(documents @ chunk.T, "max", lengths=document_lengths)  # [N, tokens of the chunk]
        scores.append(torch.segment_reduce(best.T.contiguous(), reduction, lengths=lengths))
    return torch.cat(scores)
