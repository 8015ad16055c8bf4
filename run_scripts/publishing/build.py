"""A trained model's directory → the clean folder that is published: layout, card, results. No network."""

import string
from pathlib import Path

import torch
from huggingface_hub import get_token
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import get_relative_import_files

from m3se.hub_cards import layouts
from m3se.hub_cards.card import render_card
from m3se.hub_cards.results import parse_benchmark, write_eval_results
from m3se.modeling.colbert import ColBERT
from m3se.modeling.colbert_inputs import token_fields
from m3se.modeling.cross_encoder import CrossEncoder
from m3se.modeling.dual_encoder import DualEncoder
from m3se.run_scripts.publishing.card_values import evaluation_values, example_scores, read_json, training_values
from m3se.run_scripts.publishing.folder import check_clean, new_folder
from m3se.run_scripts.publishing.onnx import export_onnx
from m3se.run_scripts.publishing.pictures import copy_pictures, diagnostic_pictures, draw_learning_curve
from m3se.trainers.errors import InputError
from m3se.trainers.storage.checksums import refuse_damaged_model, write_sums


CLASSES = {model.config_class.model_type: model for model in (ColBERT, CrossEncoder, DualEncoder)}
ONE_LABEL = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
# Without one of these, transformers makes up an empty tokenizer to which all texts are the same.
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.vocab")
CODE = Path(layouts.__file__).parent.parent / "modeling"
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
    onnx: bool = False,
    example_query: str = EXAMPLE_QUERY,
    example_documents: tuple[str, ...] = EXAMPLE_DOCUMENTS,
    **card_values,
) -> Path:
    """Write the published folder of the model in `model_dir` and return it; it appears whole or not at all.

    `model_dir` holds a checkpoint of one of our classes, its tokenizer, and may hold training.json. `load_id` is the
    Hub id that the card's snippets load (default: the folder's name). `metrics` is a metrics.json, `table` and
    `significance` are files of Markdown, `diagnostics` is the output of diagnose.py, `pictures` maps image files to
    captions, `benchmark` is "org/dataset:task:measure". `onnx` adds the encoder for ONNX Runtime. `card_values` are
    those of `hub_cards.card`; they win over what training.json says.

    Raises:
        InputError: no model of ours in `model_dir`, a file that is missing or unreadable, or a `folder` that must not
            be replaced; or a file of the new folder would show a path of this machine or a token.
    """
    if model_dir.resolve() == folder.resolve():
        raise InputError(f"{folder}: the published folder cannot be the model's own directory")
    evaluation = evaluation_values(metrics, table, significance, card_values)
    model, tokenizer = load(model_dir)
    documents = list(example_documents)
    scores = example_scores(model, tokenizer, example_query, documents)
    values = model_values(model, tokenizer) | training_values(model_dir / "training.json") | evaluation
    values |= {"name": folder.name, "load_id": load_id or folder.name}
    values |= {"example": {"query": example_query, "documents": documents, "scores": scores}}
    values |= {name: value for name, value in card_values.items() if value is not None}
    try:
        with new_folder(folder) as staging:
            write_layout(staging, model, tokenizer)
            values["pictures"] = draw_learning_curve(staging, values["name"], values.get("curve", []))
            values["pictures"] += copy_pictures(staging, diagnostic_pictures(diagnostics) | (pictures or {}))
            if benchmark is not None:
                write_eval_results(staging, values.get("metrics", {}), parse_benchmark(benchmark))
            if onnx:
                export_onnx(model, tokenizer, staging / "onnx" / "model.onnx")
                values["onnx"] = True
            (staging / "README.md").write_text(render_card(**values), encoding="utf-8")
            write_sums(staging, leave_out=("README.md",))  # which people edit
            check_clean(staging, [model_dir.resolve(), Path.home()], get_token())
    except ValueError as error:
        raise InputError(str(error)) from error
    return folder


def compare_scores(model_dir: Path, published: Path) -> None:
    """Raise InputError unless the published model gives the trained model's scores (to 1e-4 of their size)."""
    texts = EXAMPLE_QUERY, list(EXAMPLE_DOCUMENTS)
    trained, again = (torch.tensor(example_scores(*load(path), *texts)) for path in (model_dir, published))
    if not torch.allclose(trained, again, rtol=1e-4, atol=1e-4):
        raise InputError(f"{published} scores {again.tolist()}, but {model_dir} scores {trained.tolist()}")


def load(model_dir: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in a checkpoint or published folder of ours, in evaluation mode, and its tokenizer.

    Raises:
        InputError: there is no model of ours, or no tokenizer, or a file is not what was written.
    """
    refuse_damaged_model(model_dir)
    config = read_json(model_dir / "config.json")
    kind = config.get(layouts.FIELDS_KEY, config).get("model_type")
    if kind not in CLASSES:
        raise InputError(f"{model_dir / 'config.json'}: model_type is {kind!r}; expected one of {', '.join(CLASSES)}")
    if not any(path for pattern in TOKENIZER_FILES for path in model_dir.glob(pattern)):
        raise InputError(f"{model_dir} has no tokenizer: expected one of {', '.join(TOKENIZER_FILES)}")
    try:
        model, tokenizer = CLASSES[kind].from_pretrained(str(model_dir)), AutoTokenizer.from_pretrained(str(model_dir))
    except OSError as error:
        raise InputError(f"{model_dir}: {str(error).splitlines()[0]}") from error
    known = model.encoder.config.vocab_size
    if len(tokenizer) > known:
        raise InputError(f"{model_dir}: the tokenizer has {len(tokenizer)} tokens, the model knows only {known}")
    return model.eval(), tokenizer


def write_layout(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Weights, config and tokenizer in the layout that most libraries can read."""
    encoder_config = model.encoder.config.to_diff_dict() | {"architectures": [type(model.encoder).__name__]}
    fields, save_tokenizer = own_fields(model), tokenizer.save_pretrained
    weights = model.encoder.state_dict()
    if reasons_for_code(model, tokenizer):
        config = fields | own_code(model) | {"encoder_config": encoder_config}
        code = CODE / f"{model.config.model_type}.py"
        code_files = [code, *map(Path, get_relative_import_files(code))]
        layouts.write_custom_code(folder, model.state_dict(), config, code_files, save_tokenizer)
    elif isinstance(model, DualEncoder):
        layouts.write_dual_encoder(folder, weights, encoder_config, fields, save_tokenizer)
    elif isinstance(model, ColBERT):
        width = model.encoder.config.hidden_size
        projection = torch.eye(width) if model.projection is None else model.projection.weight
        prefix, metadata = model.encoder.base_model_prefix, stanford_metadata(model, tokenizer)
        layouts.write_colbert(folder, weights, projection, prefix, encoder_config, fields, metadata, save_tokenizer)
    else:
        if model.encoder.config.num_labels == 2:
            weights, encoder_config = one_logit(model.encoder), encoder_config | ONE_LABEL
        layouts.write_cross_encoder(folder, weights, encoder_config, fields, save_tokenizer)


def one_logit(classifier: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights of a classifier of two labels, its last layer replaced by the difference that is our score.

    Raises:
        ValueError: the last layer is not to be found.
    """
    weights = classifier.state_dict()
    heads = [name for name, layer in classifier.named_modules() if isinstance(layer, torch.nn.Linear)]
    heads = [name for name in heads if classifier.get_submodule(name).out_features == 2]
    if len(heads) != 1:
        raise ValueError(f"{type(classifier).__name__} has {len(heads)} layers of two outputs, expected one")
    for name in (f"{heads[0]}.weight", f"{heads[0]}.bias"):
        if name in weights:
            weights[name] = weights[name][1:] - weights[name][:1]
    return weights


def own_fields(model: PreTrainedModel) -> dict:
    """The fields that our config class adds, the backbone's config aside."""
    names = type(model.config).__annotations__.keys() - {"encoder_config"}
    return {name: getattr(model.config, name) for name in sorted(names)}


def own_code(model: PreTrainedModel) -> dict:
    """The entries of config.json that lead `trust_remote_code` to our class."""
    module, name = model.config.model_type, type(model).__name__
    auto_map = {"AutoConfig": f"{module}.{name}Config", "AutoModel": f"{module}.{name}"}
    return {"model_type": module, "architectures": [name], "auto_map": auto_map}


def stanford_metadata(model: ColBERT, tokenizer: PreTrainedTokenizerBase) -> dict:
    """artifact.metadata: the settings by the names of Stanford's ColBERT."""
    config = model.config
    markers = [config.query_marker_id, config.document_marker_id]
    query_token, document_token = tokenizer.convert_ids_to_tokens(markers)
    return {
        "query_token_id": query_token,
        "doc_token_id": document_token,
        "query_token": "[Q]",
        "doc_token": "[D]",
        "query_maxlen": config.query_length,
        "doc_maxlen": config.document_length,
        "dim": config.projection_size or config.encoder_config.hidden_size,
        "similarity": "cosine",
        "mask_punctuation": bool(config.skiplist_ids),
        "attend_to_mask_tokens": config.attend_to_mask,
        "interaction": "colbert",
    }


def reasons_for_code(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What keeps a model from being a plain backbone, or Stanford's ColBERT: empty if nothing does."""
    config = model.config
    if isinstance(model, DualEncoder):
        reasons = {
            "queries and documents have encoders of their own": not config.tied,
            "a projection follows the pooling": config.projection_size,
            "a LayerNorm follows the pooling": config.output_norm,
        }
    elif isinstance(model, ColBERT):
        punctuation = token_fields(tokenizer, None, list(string.punctuation))["skiplist_ids"]
        reasons = {
            "token embeddings are not of unit length": not config.normalize,
            "the projection has a bias": config.projection_bias,
            "queries are not filled up with [MASK]": config.mask_augmentation != "fill",
            "queries and documents are not marked": None in (config.query_marker_id, config.document_marker_id),
            "the words not compared are not those of punctuation": (config.skiplist_ids or punctuation) != punctuation,
        }
    else:
        reasons = {}
    return [reason for reason, applies in reasons.items() if applies]


def model_values(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict:
    """What the card says of a model whatever it was trained on."""
    config = model.encoder.config
    reasons = reasons_for_code(model, tokenizer)
    fields = own_fields(model)
    if isinstance(model, ColBERT) and not reasons:
        fields |= {name: stanford_metadata(model, tokenizer)[name] for name in ("query_token_id", "doc_token_id")}
    return {
        "kind": model.config.model_type,
        "custom_code": bool(reasons),
        "custom_code_reason": " and ".join(reasons),
        "fields": fields,
        "architecture": {
            "backbone": config.model_type,
            "layers": config.num_hidden_layers,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "width": fields.get("projection_size") or config.hidden_size,
        },
    }
