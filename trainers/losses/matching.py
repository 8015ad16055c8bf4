"""The distance between a student's embeddings and a teacher's (EmbedDistill, Kim et al., 2023; LEAF, 2025)."""

from torch import Tensor
from torch.nn.functional import normalize


def embedding_matching(
    queries: Tensor,
    teacher_queries: Tensor,
    documents: Tensor | None = None,
    teacher_documents: Tensor | None = None,
    document_index: Tensor | None = None,
) -> Tensor:
    """Match a teacher's embeddings: the mean over queries of d(query) + the mean of d(document) over its documents.

    d = |e/|e| - t/|t||^2 = 2 - 2 cos(e, t), for the embedding e of a text by the student and t by the teacher. As it
    is a mean over queries, processes with equal numbers of them have the mean of their losses in common.

    Args:
        queries, teacher_queries: [B, H].
        documents, teacher_documents: [N', H] and [N, H], of which the first N are the same texts; None: only queries
            are matched.
        document_index: [B, K] rows of the N documents, -1 for none.

    Returns:
        A scalar. A query without a document has the distance of its own embedding alone.
    """
    distances = squared_distance(queries, teacher_queries)
    if documents is not None and teacher_documents is not None and document_index is not None:
        own = squared_distance(documents[: len(teacher_documents)], teacher_documents)
        listed = document_index >= 0
        each = own[document_index.clamp(min=0)] * listed
        distances = distances + each.sum(dim=1) / listed.sum(dim=1).clamp(min=1)
    return distances.mean()


def squared_distance(embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Return the squared distance of each pair of embeddings at unit length: [N, H] twice -> [N], from 0 to 4."""
    return (normalize(embeddings, dim=-1) - normalize(teacher_embeddings, dim=-1)).square().sum(dim=-1)
