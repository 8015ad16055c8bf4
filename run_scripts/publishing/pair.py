"""A query encoder and the other model that embeds its documents, published in one folder."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from m3se.hub_cards import layouts, router
from m3se.modeling import publishing
from m3se.modeling.checkpoints import DOCUMENT_TOWER, QUERY_TOWER
from m3se.modeling.dual_encoder import DualEncoder
from m3se.run_scripts.publishing.card_values import public_name
from m3se.trainers.errors import InputError
from m3se.trainers.fitting import hardware
from m3se.trainers.models.backbones import as_input_errors
from m3se.trainers.models.inspection import load_tokenizer
from m3se.trainers.models.model_info import model_path, tower_folder
from m3se.trainers.retrieval.embed_texts import encode_texts
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.paired_scorer import PairedScorer
from m3se.trainers.retrieval.scorers import DenseScorer


CALLS, FIRST_CALLS = 20, 5  # of the encoders, when their time is measured; the first do not count
SAME = 1e-3  # difference of two embeddings of unit length


@dataclass(frozen=True)
class DocumentTower:
    """The encoder of documents that belongs to a query encoder.

    Attributes:
        model, tokenizer: as our class holds it.
        name: what the card calls it.
        scorer: the pair, as a search uses it.
    """

    model: DualEncoder
    tokenizer: PreTrainedTokenizerBase
    name: str
    scorer: PairedScorer


def load_document_tower(model_dir: Path, model: DualEncoder, example: list[str]) -> DocumentTower:
    """Load the encoder of a query encoder's documents.

    Args:
        model_dir: directory of the query encoder.
        model: the query encoder.
        example: documents that both ways of loading it must embed alike.

    Raises:
        InputError: it is not there, has changed, or has parts that the published folder cannot hold.
    """
    scorer = load_scorer(model_dir, "float32", device="cpu")
    name = model.config.document_model["name"]
    place = tower_folder(str(model_dir), DOCUMENT_TOWER) or model_path(name)
    with as_input_errors(name):
        tower, tokenizer = DualEncoder.from_pretrained(place).eval(), load_tokenizer(place)
    if reasons := publishing.reasons_for_code(tower, tokenizer):
        raise InputError(f"{name}: cannot be published beside its queries: {' and '.join(reasons)}")
    vectors, expected = encode_texts(tower, tokenizer, example, "document"), scorer.encode(example, "document")
    difference = np.linalg.norm(vectors - expected, axis=1) / np.linalg.norm(expected, axis=1)
    if difference.max() > SAME:
        raise InputError(f"{name}: cannot be published beside its queries: its own library embeds otherwise")
    return DocumentTower(tower, tokenizer, public_name(name), scorer)


def write_pair(folder: Path, model: DualEncoder, tokenizer: PreTrainedTokenizerBase, documents: DocumentTower) -> None:
    """Write a query encoder and its documents' encoder as one folder.

    Args:
        folder: empty folder to fill.
        model, tokenizer: the query encoder.
        documents: the other one.
    """
    fields = publishing.config_fields(model)
    alone = {"document_model": None, "document_length": model.config.query_length}  # it is given queries only
    write_tower(folder / QUERY_TOWER, model, tokenizer, fields | alone)
    write_tower(
        folder / DOCUMENT_TOWER, documents.model, documents.tokenizer, publishing.config_fields(documents.model)
    )
    prompts = {"query": model.config.query_prompt, "document": documents.model.config.document_prompt}
    is_cosine = model.config.normalize and documents.model.config.normalize
    own = fields | {"document_model": model.config.document_model | {"name": documents.name}}
    router.write_router(folder, publishing.encoder_config(model), own, prompts, is_cosine, tokenizer.save_pretrained)


def write_tower(folder: Path, model: DualEncoder, tokenizer: PreTrainedTokenizerBase, fields: dict) -> None:
    """Write one of the two encoders as a published dual encoder of its own.

    Args:
        folder: where it goes.
        model, tokenizer: the encoder.
        fields: of our own config.
    """
    folder.mkdir()
    projection = None if model.projection is None else model.projection.state_dict()
    weights, config = publishing.encoder_weights(model), publishing.encoder_config(model)
    width = model.encoder.config.hidden_size
    layouts.write_dual_encoder(folder, weights, projection, width, config, fields, tokenizer.save_pretrained)


def pair_values(documents: DocumentTower, fields: dict, query: str) -> dict:
    """Return what the card says of a pair: the documents' encoder, and the time of a query by either.

    Args:
        documents: their encoder.
        fields: of the query encoder.
        query: is embedded alone, on the CPU in float32.
    """
    config = documents.model.config
    cost = {
        "query": query_milliseconds(documents.scorer, query),
        "document": query_milliseconds(documents.scorer.documents, query),
        "hardware": hardware(torch.device("cpu")),
    }
    texts = {"document_length": config.document_length, "document_prompt": config.document_prompt}
    parameters = sum(parameter.numel() for parameter in documents.model.parameters())
    about = {"name": documents.name, "layers": config.encoder_config.num_hidden_layers, "parameters": parameters}
    return {"fields": fields | texts, "document_tower": about, "query_cost": cost}


def query_milliseconds(scorer: DenseScorer, query: str) -> float:
    """Measure how long an encoder takes for one query, tokenisation included: the median of some calls."""
    seconds = []
    for _ in range(FIRST_CALLS + CALLS):
        started = time.perf_counter()
        scorer.encode([query], "query")
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds[FIRST_CALLS:])
