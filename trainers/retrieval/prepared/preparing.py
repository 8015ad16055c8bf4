"""The preparation of a search: the query side of a dual encoder as an ONNX file, and the record of its parts."""

import logging
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from m3se.modeling.dual_encoder import DualEncoder
from m3se.trainers.backends.choice import Backend, missing_packages
from m3se.trainers.backends.compiling import EXAMPLES
from m3se.trainers.backends.conversion import convert
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.readers.read_data import source_state
from m3se.trainers.errors import InputError
from m3se.trainers.models.inspection import load_tokenizer
from m3se.trainers.models.text_inputs import TextInputs
from m3se.trainers.retrieval.embed_texts import Tower
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.prepared.answering import ENCODER, INPUTS, TOKENIZER
from m3se.trainers.retrieval.prepared.record import PreparedSearch, record_file
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import cache_key, reusable
from m3se.trainers.storage.state import State


logger = logging.getLogger(__name__)

ONNX = Backend("onnx", "float32")


def prepare_search(
    scorer: DenseScorer,
    collection: EmbeddedCollection,
    documents: DocumentTable,
    cache: str | Path,
    *,
    model: str,
    data: str,
    split: str | None = None,
) -> None:
    """Write what later searches of a model and a collection need, unless one of them cannot be searched in this way.

    That takes ONNX Runtime, a dual encoder of ours on the CPU, in a folder with a fast tokenizer, and data in files or
    pydocs. A model that cannot be converted is named in a warning.

    Args:
        scorer: the model, computed by torch on the CPU.
        collection: the embeddings of the documents by this model.
        documents: their texts, in a folder of the cache.
        cache: where files are kept.
        model: the folder, as the search will name it.
        data: the collection, as the search will name it.
        split: the split of the data, if one is named.
    """
    cache = Path(cache)
    data_state = source_state(data)
    encoder = scorer.transformers[0][0] if scorer.transformers else None
    is_ours = isinstance(encoder, DualEncoder) and scorer.device.type == "cpu"
    if (
        missing_packages(ONNX)
        or not is_ours
        or documents.folder is None
        or data_state is None
        or not Path(model).exists()
    ):
        return
    tokenizer = load_tokenizer(model)
    if not tokenizer.is_fast or not tokenizer("")["input_ids"]:  # an empty query must have a token
        return
    try:
        folder = query_encoder(scorer, encoder, tokenizer, cache)
    except InputError as error:  # the search itself has been answered
        logger.warning("later searches need torch too: %s", error)
        return
    state = State.read([model]) | data_state
    folders = [str(place.resolve()) for place in (folder, collection.folder, documents.folder)]
    PreparedSearch(*folders, encoder.config.query_prompt, state).write(record_file(cache, model, data, split))


def query_encoder(scorer: DenseScorer, model: DualEncoder, tokenizer: PreTrainedTokenizerBase, cache: Path) -> Path:
    """Return the folder of a model's query side and tokenizer, made if the cache lacks it."""
    folder = cache / f"query-{cache_key(scorer.fingerprint, ONNX.versions)}"
    if not reusable(folder):
        logger.info("preparing later searches, which then need no torch")
        inputs = TextInputs.for_model(tokenizer, model.config)
        batch = dict(zip(INPUTS, inputs(EXAMPLES, "query"), strict=True))
        with complete_folder(folder, replace=False) as files:
            convert(Tower(model, "query"), batch, "embeddings", ONNX, files / ENCODER)
            save_tokenizer(tokenizer, model.config.query_length, files / TOKENIZER)
    return folder


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, length: int, file: Path) -> None:
    """Save a tokenizer that cuts texts to a length, special tokens included, and pads them to the longest."""
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(length)
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    backend.save(str(file))
