"""A trained model's directory → the clean folder that is published: layout, card, results. No network."""

from itertools import chain
from pathlib import Path

import torch
from huggingface_hub import get_token
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from m3se.hub_cards import layouts
from m3se.hub_cards.card import render_card
from m3se.hub_cards.metadata import check_metadata
from m3se.hub_cards.results import parse_benchmark, write_eval_results
from m3se.modeling import publishing
from m3se.modeling.checkpoints import FIELDS_KEY
from m3se.modeling.colbert import ColBERT
from m3se.modeling.cross_encoder import CrossEncoder
from m3se.modeling.dual_encoder import DualEncoder
from m3se.modeling.encoders import encoder_class
from m3se.run_scripts.publishing.card_values import (
    evaluation_values,
    example_scores,
    read_json,
    training_values,
    without_missing,
)
from m3se.run_scripts.publishing.compiled_files import CompiledFiles, add_files
from m3se.run_scripts.publishing.folder import check_clean, check_replaceable, new_folder
from m3se.run_scripts.publishing.pair import DocumentTower, load_document_tower, pair_values, write_pair
from m3se.run_scripts.publishing.pictures import copy_pictures, diagnostic_pictures, draw_learning_curve
from m3se.trainers.errors import InputError
from m3se.trainers.models.backbones import as_input_errors
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.storage.checksums import refuse_damaged_model


# Without one of these, transformers makes up an empty tokenizer to which all texts are the same.
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.vocab")
EXAMPLE_QUERY = "how tall is a giraffe"
EXAMPLE_DOCUMENTS = (
    "Adult giraffes stand 4.3 to 5.7 metres tall, males taller than females.",
    "The common ostrich lays the largest eggs of any living bird.",
)


def build_folder(
    model_dir: Path,
    folder: Path,
    *,
    load_id: str | None = None,
    metrics: Path | None = None,
    table: Path | None = None,
    significance: Path | None = None,
    benchmark: str | None = None,
    diagnostics: Path | None = None,
    pictures: dict[Path, str] | None = None,
    compiled: CompiledFiles | None = None,
    example_query: str = EXAMPLE_QUERY,
    example_documents: tuple[str, ...] = EXAMPLE_DOCUMENTS,
    **card_values,
) -> Path:
    """Write the published folder of a trained model and return it; it appears whole or not at all.

    Args:
        model_dir: a checkpoint of one of our classes and its tokenizer, perhaps with training.json.
        folder: the folder to write, new or published before; its name is the card's title.
        load_id: Hub id that the card's snippets load (default: the folder's name).
        metrics: a metrics.json of evaluate.py.
        table: a file of Markdown, the card's results.
        significance: a file of Markdown on which differences are real.
        benchmark: "org/dataset:task:measure", a benchmark of the Hub to report to.
        diagnostics: output folder of diagnose.py.
        pictures: image file → caption.
        compiled: files for OpenVINO and ONNX Runtime to add.
        example_query: query of the card's snippets.
        example_documents: their documents.
        card_values: values of `hub_cards.card`; they win over what training.json says.

    Raises:
        InputError: no model of ours, a file that cannot be read, a `folder` that must not be replaced, metadata that
            the Hub would refuse, or a file that would show a path of this machine or a token.
    """
    if model_dir.resolve() == folder.resolve():
        raise InputError(f"{folder}: the published folder cannot be the model's own directory")
    with as_input_errors():
        check_metadata(card_values)
        (compiled := compiled or CompiledFiles()).backends()
        check_replaceable(folder)
        evaluation = evaluation_values(metrics, table, significance, card_values)
        model, tokenizer = load(model_dir)
        documents = load_documents(model_dir, model, list(example_documents), compiled)
        example = make_example(model_dir, model, tokenizer, example_query, list(example_documents))
        values = model_values(model, tokenizer, documents) | training_values(model_dir / "training.json") | evaluation
        values |= {"name": folder.name, "load_id": load_id or folder.name, "example": example}
        values |= without_missing(card_values)
        with new_folder(folder) as staging:
            write_layout(staging, model, tokenizer, documents)
            values["pictures"] = draw_learning_curve(staging, values["name"], values.get("curve", []))
            values["pictures"] += copy_pictures(staging, diagnostic_pictures(diagnostics) | (pictures or {}))
            if benchmark is not None:
                write_eval_results(staging, values.get("metrics", {}), parse_benchmark(benchmark))
            values |= add_files(model_dir, staging, compiled)
            (staging / "README.md").write_text(render_card(**values), encoding="utf-8")
            check_clean(staging, [model_dir.resolve(), Path.home()], get_token())
    return folder


def load_documents(
    model_dir: Path, model: PreTrainedModel, texts: list[str], compiled: CompiledFiles
) -> DocumentTower | None:
    """Load the encoder of the documents of a query encoder; None for any other model.

    Args:
        model_dir: directory of the model.
        model: what is there.
        texts: documents to try it on.
        compiled: files for other libraries.

    Raises:
        InputError: it cannot be published, or files for other libraries were asked for.
    """
    if not has_document_model(model):
        return None
    if compiled.backends():
        raise InputError(f"{model_dir}: a pair of encoders is published without files for other libraries")
    return load_document_tower(model_dir, model, texts)


def make_example(
    model_dir: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, query: str, documents: list[str]
) -> dict:
    """Return the example of a card's snippets: {"query", "documents", "scores"}, without the scale of the scores.

    Other libraries know of no scale, and compute the scores from the vectors.

    Args:
        model_dir: directory of the model.
        model, tokenizer: what is there.
        query, documents: the texts.
    """
    scores, scale = score_example(model_dir, model, tokenizer, query, documents), model.reached_scale()
    return {"query": query, "documents": documents, "scores": [score / scale for score in scores]}


def has_document_model(model: PreTrainedModel) -> bool:
    """Tell a query encoder whose documents another model embeds."""
    return getattr(model.config, "document_model", None) is not None


def score_example(
    model_dir: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, query: str, documents: list[str]
) -> list[float]:
    """Score documents for a query, those of a query encoder by the model that embeds them.

    Args:
        model_dir: directory of the model.
        model, tokenizer: what is there.
        query, documents: the texts.
    """
    if has_document_model(model):
        return load_scorer(model_dir, "float32", device="cpu").score(query, documents)
    return example_scores(model, tokenizer, query, documents)


def compare_scores(model_dir: Path, published: Path) -> None:
    """Raise InputError unless the published model gives the trained model's scores (to 1e-4 of their size)."""
    texts = EXAMPLE_QUERY, list(EXAMPLE_DOCUMENTS)
    trained = torch.tensor(score_example(model_dir, *load(model_dir), *texts))
    again = torch.tensor(score_example(published, *load(published), *texts))
    if not torch.allclose(trained, again, rtol=1e-4, atol=1e-4):
        raise InputError(f"{published} scores {again.tolist()}, but {model_dir} scores {trained.tolist()}")


def load(model_dir: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model of a checkpoint or published folder of ours, in evaluation mode, and its tokenizer.

    Raises:
        InputError: there is no model of ours, or no tokenizer, or a file is not what was written.
    """
    refuse_damaged_model(model_dir)
    config = read_json(model_dir / "config.json")
    kind = config.get(FIELDS_KEY, config).get("model_type")
    if kind not in publishing.CLASSES:
        raise InputError(
            f"{model_dir / 'config.json'}: model_type is {kind!r}; expected one of {', '.join(publishing.CLASSES)}"
        )
    if not any(chain.from_iterable(map(model_dir.glob, TOKENIZER_FILES))):
        raise InputError(f"{model_dir} has no tokenizer: expected one of {', '.join(TOKENIZER_FILES)}")
    try:
        model = publishing.CLASSES[kind].from_pretrained(str(model_dir))
        tokenizer = AutoTokenizer.from_pretrained(str(model_dir))
    except OSError as error:
        raise InputError(f"{model_dir}: {str(error).splitlines()[0]}") from error
    vocabulary = model.encoder.config.vocab_size
    if len(tokenizer) > vocabulary:
        raise InputError(f"{model_dir}: the tokenizer has {len(tokenizer)} tokens, the model knows only {vocabulary}")
    return model.eval(), tokenizer


def write_layout(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: DocumentTower | None = None,
) -> None:
    """Write weights, config and tokenizer in the layout that most libraries can read.

    Args:
        folder: empty folder to fill.
        model, tokenizer: what is published.
        documents: the encoder of its documents, where that is another model.

    Raises:
        ValueError: a classifier of two labels whose last layer is not to be found.
    """
    if documents is not None:
        write_pair(folder, model, tokenizer, documents)
        return
    fields, config = publishing.config_fields(model), publishing.encoder_config(model)
    save_tokenizer = tokenizer.save_pretrained
    if publishing.reasons_for_code(model, tokenizer):
        own_config = fields | publishing.own_code(model) | {"encoder_config": config}
        code_files = publishing.code_files(model.config.model_type)
        layouts.write_custom_code(folder, publishing.own_weights(model), own_config, code_files, save_tokenizer)
        return
    weights = publishing.encoder_weights(model)
    if isinstance(model, DualEncoder):
        projection = None if model.projection is None else model.projection.state_dict()
        width = model.encoder.config.hidden_size
        layouts.write_dual_encoder(folder, weights, projection, width, config, fields, save_tokenizer)
    elif isinstance(model, ColBERT):
        projection, prefix = publishing.projection_weight(model), model.encoder.base_model_prefix
        metadata = publishing.stanford_metadata(model, tokenizer)
        layouts.write_colbert(folder, weights, projection, prefix, config, fields, metadata, save_tokenizer)
    else:
        give_token_types(model, tokenizer)
        layouts.write_cross_encoder(folder, weights, config, fields, save_tokenizer)


def give_token_types(model: CrossEncoder, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a tokenizer give the types of a pair's tokens where the model has an embedding for each."""
    names = [*tokenizer.model_input_names, "token_type_ids"]
    has_types = model.encoder.config.to_dict().get("type_vocab_size", 1) > 1
    if has_types and "token_type_ids" not in tokenizer.model_input_names:
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names


def model_values(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: DocumentTower | None = None
) -> dict:
    """Return the card's values that are read from a model and the encoder of its documents, if that is another."""
    config = model.encoder.config
    reasons = publishing.reasons_for_code(model, tokenizer)
    fields = publishing.config_fields(model)
    if isinstance(model, ColBERT) and not reasons:
        metadata = publishing.stanford_metadata(model, tokenizer)
        fields |= {"query_token_id": metadata["query_token_id"], "doc_token_id": metadata["doc_token_id"]}
    paired = {} if documents is None else pair_values(documents, fields, EXAMPLE_QUERY)
    return {
        "kind": model.config.model_type,
        "custom_code": bool(reasons),
        "custom_code_reason": " and ".join(reasons),
        "fields": fields,
        "architecture": {
            "backbone": config.model_type,
            "auto_class": encoder_class(config).__name__,
            "layers": config.num_hidden_layers,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "width": fields.get("projection_size") or config.hidden_size,
        },
        **paired,
    }
