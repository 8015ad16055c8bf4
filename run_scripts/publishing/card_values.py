"""What a card says of a model: read from the model itself and from the record of its training."""

import json
import re
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from m3se.hub_cards.paper import TABLES
from m3se.trainers.errors import InputError


DATA_NOTES = {
    "msmarco": "The training data is MS MARCO, which its licence restricts to non-commercial research.",
    "pydocs": "The training texts are docstrings of Python libraries, each under its library's licence.",
}
# Values of training.json that say where something lay or who was allowed, not how the model was trained.
PRIVATE = re.compile(r"(^|_)(dir|token|path|file|files|hub|name|checkpoint|callback|port|address)(_|$)")


def training_values(path: Path) -> dict:
    """Card values from the record of a training run; none if there is no record."""
    if not path.exists():
        return {}
    record = read_json(path)
    names = ("loss", "loss_args", "recipe", "versions", "hardware", "seconds", "teacher", "seed")
    values = {name: record[name] for name in names if record.get(name) is not None}
    if "data" in record:
        values["data"] = data_summary(record["data"])
        values["data_notes"] = data_notes(values["data"].get("name", ""))
    for name in ("recipe", "teacher"):
        if name in values:
            values[name] = public_name(values[name])
    if "hyperparameters" in record:
        values["hyperparameters"] = public_hyperparameters(record["hyperparameters"])
        values = {"seed": record["hyperparameters"].get("seed")} | values
    if record.get("log_history"):
        values["curve"] = learning_curve(record["log_history"])
    return values


def evaluation_values(metrics: Path | None, table: Path | None, significance: Path | None, given: dict) -> dict:
    """Card values from the files of an evaluation; `given` may hold the name of the data set they lack.

    Raises:
        InputError: a file cannot be read, or nobody says which data the metrics were measured on.
    """
    texts = {"table": table, "significance": significance}
    values: dict = {name: read_text(path).strip() for name, path in texts.items() if path is not None}
    if metrics is None:
        return values
    values["metrics"] = read_json(metrics)
    values["dataset"] = given.get("dataset") or values["metrics"].get("data")
    values["split"] = given.get("split") or values["metrics"].get("split")
    if values["dataset"] is None:
        raise InputError(f"{metrics} does not say which data it was measured on: name the dataset")
    return values


def paper_values(text: str) -> dict:
    """ "table1:M3SE:MSMARCO re-rank" -> the card's `paper`: of a row of the paper, the columns of one task.

    Raises:
        InputError: the paper has no such table, row or task; the message lists those it has.
    """
    table, row, task = (text.split(":") + ["", ""])[:3]
    if table not in TABLES:
        raise InputError(f"paper: no table {table!r}; expected TABLE:ROW:TASK with one of {', '.join(TABLES)}")
    found = TABLES[table]
    if row not in found.rows:
        raise InputError(f"paper: {table} has no row {row!r}, only {', '.join(found.rows)}")
    prefix = f"{task} " if task else ""
    measures = {
        column.removeprefix(prefix): found.value(row, column)
        for column in found.columns
        if column.startswith(prefix) and " " not in column.removeprefix(prefix) and (row, column) not in found.doubtful
    }
    measures = {measure: value for measure, value in measures.items() if value is not None}
    if not measures:
        columns = ", ".join(found.columns)
        raise InputError(f"paper: {table}, {row} has no numbers for {task!r}; its columns are {columns}")
    source = ", ".join(filter(None, [f"Table {table.removeprefix('table')}", task]))
    return {"source": source, "model": row, "measures": measures}


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


def data_notes(name: str) -> str | None:
    """What the licence of a known data set asks of a model trained on it; None for any other."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    return next((notes for known, notes in DATA_NOTES.items() if known in plain), None)


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
