"""The start of a training: a pretrained encoder, and the refusal of options that do not fit it."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedModel

from m3se.modeling.cross_encoder import CrossEncoder
from m3se.modeling.encoders import position_limit
from m3se.trainers.errors import InputError
from m3se.trainers.models.model_info import ModelInfo


def encoder_path(encoder: str) -> str:
    """Return the folder or Hub id that `encoder` stands for.

    Raises:
        InputError: the extra of "demo" is not installed, or there is no encoder that could be trained.
    """
    info = ModelInfo.read(encoder)
    if not info.config:
        raise InputError(
            f"encoder: {encoder} is made of {info.modules[0]['type']} and has no transformer to train; "
            "a transformer with layers 0 is token embeddings too"
        )
    return info.name


@contextmanager
def as_input_errors(name: str | None = None) -> Iterator[None]:
    """Turn what our models and transformers refuse of a checkpoint into an InputError of one line.

    Messages that do not say which checkpoint, such as those about a damaged file, begin with `name` if it is given.
    """
    try:
        yield
    except InputError:
        raise
    except (ValueError, OSError, SafetensorError, StrictDataclassError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the machine; transformers' own have no number
            raise
        reason = " ".join(str(error).split())[:400]
        raise InputError(reason if name is None or name in reason else f"{name}: {reason}") from error


def check_lengths(model: PreTrainedModel) -> None:
    """Raise InputError when a text may be longer than the encoder has positions for, or has no room for a word."""
    query, document, joined = model.config.query_length, model.config.document_length, isinstance(model, CrossEncoder)
    limit = position_limit(model.config.encoder_config)
    if min(query, document) < 3 or (model.config.pair_length if joined else max(query, document)) > limit:
        raise InputError(
            "query_length, document_length: expected at least 3 tokens, and at most the encoder's "
            f"{limit} positions{' for both together' if joined else ''}, got {query} and {document}"
        )
