"""A trained model's directory → the clean folder that is published: layout, card, results. No network."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import get_relative_import_files

from hub_cards import layouts
from hub_cards.card import render_card
from hub_cards.folder import new_folder
from modeling import CrossEncoder, DualEncoder
from trainers.errors import InputError


CLASSES = {model.config_class.model_type: model for model in (CrossEncoder, DualEncoder)}
CODE = Path(layouts.__file__).parent.parent / "modeling"
EXAMPLE_QUERY = "how tall is a giraffe"
EXAMPLE_DOCUMENTS = (
    "Adult giraffes stand 4.3 to 5.7 metres tall, males taller than females.",
    "The common ostrich lays the largest eggs of any living bird.",
)
# Values of training.json that say where something lay or who was allowed, not how the model was trained.
PRIVATE = re.compile(r"(^|_)(dir|token|path|file|files|hub|name|checkpoint|callback|port|address)(_|$)")


def build_folder(
    model_dir: Path,
    folder: Path,
    *,
    load_id: str | None = None,
    metrics: Path | None = None,
    table: Path | None = None,
    example_query: str = EXAMPLE_QUERY,
    example_documents: tuple[str, ...] = EXAMPLE_DOCUMENTS,
    **card_values,
) -> Path:
    """Write the published folder of the model in `model_dir` and return it; it appears whole or not at all.

    `model_dir` holds a checkpoint of one of our classes, its tokenizer, and may hold training.json. `metrics` is a
    metrics.json, `table` a Markdown table. `load_id` is the Hub id that the card's snippets load (default: the
    folder's name). `card_values` are those of `hub_cards.card`; they win over what training.json says.

    Raises:
        InputError: no model of ours in `model_dir`, a file that is missing or unreadable, or a `folder` that must not
            be replaced.
    """
    if model_dir.resolve() == folder.resolve():
        raise InputError(f"{folder}: the published folder cannot be the model's own directory")
    model, tokenizer = load(model_dir)
    values = model_values(model) | training_values(model_dir / "training.json")
    if metrics is not None:
        values["metrics"] = read_json(metrics)
        values |= {ours: values["metrics"].get(theirs) for ours, theirs in (("dataset", "data"), ("split", "split"))}
    if table is not None:
        values["table"] = read_text(table).strip()
    documents = list(example_documents)
    scores = example_scores(model, tokenizer, example_query, documents)
    values["example"] = {"query": example_query, "documents": documents, "scores": scores}
    values |= {"name": folder.name, "load_id": load_id or folder.name}
    values |= {name: value for name, value in card_values.items() if value is not None}
    if metrics is not None and values["dataset"] is None:
        raise InputError("metrics need the name of the data set they were measured on (dataset)")
    try:
        with new_folder(folder) as staging:
            write_layout(staging, model, tokenizer.save_pretrained)
            (staging / "README.md").write_text(render_card(**values), encoding="utf-8")
    except ValueError as error:
        raise InputError(str(error)) from error
    return folder


def load(model_dir: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in a checkpoint or published folder of ours, in evaluation mode, and its tokenizer.

    Raises:
        InputError: there is no model of ours, or no tokenizer.
    """
    config = read_json(model_dir / "config.json")
    kind = config.get(layouts.FIELDS_KEY, config).get("model_type")
    if kind not in CLASSES:
        raise InputError(f"{model_dir / 'config.json'}: model_type is {kind!r}; expected one of {', '.join(CLASSES)}")
    try:
        return CLASSES[kind].from_pretrained(str(model_dir)).eval(), AutoTokenizer.from_pretrained(str(model_dir))
    except OSError as error:
        raise InputError(f"{model_dir}: {str(error).splitlines()[0]}") from error


def write_layout(folder: Path, model: PreTrainedModel, save_tokenizer: Callable[[str], object]) -> None:
    """Weights, config and tokenizer in the layout that most libraries can read."""
    encoder_config = model.encoder.config.to_diff_dict() | {"architectures": [type(model.encoder).__name__]}
    fields = own_fields(model)
    if needs_code(model):
        code = CODE / f"{model.config.model_type}.py"
        class_name = type(model).__name__
        auto_map = {"AutoConfig": f"{code.stem}.{class_name}Config", "AutoModel": f"{code.stem}.{class_name}"}
        config = fields | {
            "model_type": model.config.model_type,
            "architectures": [class_name],
            "auto_map": auto_map,
            "encoder_config": encoder_config,
        }
        code_files = [code, *map(Path, get_relative_import_files(code))]
        layouts.write_custom_code(folder, model.state_dict(), config, code_files, save_tokenizer)
    elif isinstance(model, DualEncoder):
        layouts.write_dual_encoder(folder, model.encoder.state_dict(), encoder_config, fields, save_tokenizer)
    else:
        layouts.write_cross_encoder(folder, model.encoder.state_dict(), encoder_config, fields, save_tokenizer)


def own_fields(model: PreTrainedModel) -> dict:
    """The fields that our config class adds, the backbone's config aside."""
    names = type(model.config).__annotations__.keys() - {"encoder_config"}
    return {name: getattr(model.config, name) for name in sorted(names)}


def needs_code(model: PreTrainedModel) -> list[str]:
    """What keeps a model from being a plain backbone: empty if nothing does."""
    if not isinstance(model, DualEncoder):
        return []
    config = model.config
    reasons = {
        "queries and documents have encoders of their own": not config.tied,
        "a projection follows the pooling": config.projection_size,
        "a LayerNorm follows the pooling": config.output_norm,
    }
    return [reason for reason, applies in reasons.items() if applies]


def model_values(model: PreTrainedModel) -> dict:
    """What the card says of a model whatever it was trained on."""
    config = model.encoder.config
    reasons = needs_code(model)
    return {
        "kind": model.config.model_type,
        "custom_code": bool(reasons),
        "custom_code_reason": " and ".join(reasons),
        "fields": own_fields(model),
        "architecture": {
            "backbone": config.model_type,
            "layers": config.num_hidden_layers,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "width": own_fields(model).get("projection_size") or config.hidden_size,
        },
    }


def training_values(path: Path) -> dict:
    """Card values from the record of a training run; none if there is no record."""
    if not path.exists():
        return {}
    record = read_json(path)
    names = ("loss", "loss_args", "recipe", "versions", "hardware", "seconds", "teacher", "seed")
    values = {name: record[name] for name in names if record.get(name) is not None}
    if "data" in record:
        values["data"] = data_summary(record["data"])
    for name in ("recipe", "teacher"):
        if name in values:
            values[name] = public_name(values[name])
    if "hyperparameters" in record:
        values["hyperparameters"] = public_hyperparameters(record["hyperparameters"])
        values = {"seed": record["hyperparameters"].get("seed")} | values
    if record.get("log_history"):
        values["curve"] = learning_curve(record["log_history"])
    return values


def data_summary(data: dict) -> dict:
    """{name, queries, documents, documents_per_query} of the training lists, as far as the record has them."""
    lists, collection = data.get("lists", {}), data.get("collection", {})
    summary = {
        "queries": lists.get("rows"),
        "documents": collection.get("documents"),
        "documents_per_query": lists.get("documents_per_query"),
    }
    return {name: value for name, value in summary.items() if value is not None} | {
        name: value for name, value in data.items() if name not in ("lists", "collection")
    }


def public_name(name: str) -> str:
    """A Hub id as it is, a local path by its last part."""
    return Path(name).name if Path(name).exists() or Path(name).is_absolute() else name


def public_hyperparameters(hyperparameters: dict) -> dict:
    """The hyperparameters that say how a model was trained; nothing of the machine, no option left at None."""
    return {
        name: value
        for name, value in hyperparameters.items()
        if value not in (None, "", [], {}) and not PRIVATE.search(name)
    }


def learning_curve(log_history: list[dict]) -> list[dict]:
    """Dev and training metrics of each evaluation: rows {step, "dev nDCG@10", "train nDCG@10", …}."""
    rows = []
    for entry in log_history:
        found = {
            f"{'dev' if prefix == 'eval' else prefix} {measure}": value
            for name, value in entry.items()
            for prefix, _, measure in [name.partition("_")]
            if prefix in ("eval", "train") and "@" in measure
        }
        if found:
            rows.append({"step": entry["step"], **found})
    return [row for row in rows if row.keys() == rows[0].keys()]


def example_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, query: str, documents: list[str]
) -> list[float]:
    """Scores of `documents` for `query`, as the model was trained to give them."""

    def encode(texts: list[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
        batch = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]

    query_inputs = encode([query], model.config.query_length)
    document_inputs = encode(documents, model.config.document_length)
    with torch.no_grad():
        index = torch.arange(len(documents))[None]
        return model(*query_inputs, *document_inputs, document_index=index).scores[0].tolist()


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def read_json(path: Path) -> dict:
    """A JSON object; raises InputError naming the file."""
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
