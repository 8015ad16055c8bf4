"""A student's embeddings beside its teacher's: where their widths differ, by a linear layer that only trains."""

from torch import Tensor, nn
from transformers import PreTrainedModel

from m3se.modeling.dual_encoder import DualEncoder
from m3se.modeling.outputs import RankingOutput
from m3se.trainers.losses import embedding_matching


PROJECTION = "teacher_projection"  # attribute of the model, so that optimiser and checkpoints have it


def add_projection(model: DualEncoder, width: int) -> None:
    """Give a student a projection to a teacher's width; none where their embeddings are as wide."""
    own = model.config.projection_size or model.config.encoder_config.hidden_size
    if own != width:
        setattr(model, PROJECTION, nn.Linear(own, width, bias=False))


def drop_projection(model: PreTrainedModel) -> None:
    """Take the projection out of a trained student, which is saved and published without it."""
    if hasattr(model, PROJECTION):
        delattr(model, PROJECTION)


def matching_loss(model: DualEncoder, outputs: RankingOutput, inputs: dict[str, Tensor]) -> Tensor:
    """Compute `embedding_matching` of a batch.

    Args:
        model: the student, perhaps with a projection.
        outputs: those of the batch that the student has seen, which may have more documents than `inputs`.
        inputs: the batch as the collator has made it.
    """
    project = getattr(model, PROJECTION, None) or nn.Identity()
    teacher_documents = inputs.get("teacher_document_embeddings")
    documents = None if teacher_documents is None else project(outputs.document_embeddings)
    queries = project(outputs.query_embeddings), inputs["teacher_query_embeddings"]
    return embedding_matching(*queries, documents, teacher_documents, inputs["document_index"])
