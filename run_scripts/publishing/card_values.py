"""Values of a card, read from the model itself and from the records of its training and evaluation."""

import json
import re
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from m3se.hub_cards.paper import TABLES
from m3se.trainers.errors import InputError
from m3se.trainers.models.text_inputs import TextInputs


DATA_NOTES = {
    "msmarco": "The training data is MS MARCO, which its licence restricts to non-commercial research.",
    "pydocs": "The training texts are docstrings of Python libraries, each under its library's licence.",
}
SPLITS = {"eval": "dev", "train": "train"}  # prefix of a metric in Trainer's log → its queries
# Values of training.json that say where something lay or who was allowed, not how the model was trained.
PRIVATE = re.compile(r"(^|_)(dir|token|path|file|files|hub|name|checkpoint|callback|port|address)(_|$)")


def training_values(path: Path) -> dict:
    """Read card values from the record of a training run; none if there is no record."""
    if not path.exists():
        return {}
    record = read_json(path)
    names = ("loss", "loss_args", "recipe", "versions", "hardware", "seconds", "teacher", "seed", "score_scale")
    names += ("matched_to", "refresh")
    values = without_missing({name: record.get(name) for name in names})
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


def evaluation_values(metrics: Path | None, table: Path | None, significance: Path | None, card_values: dict) -> dict:
    """Read card values from the files of an evaluation; `card_values` may hold the data set and split they lack.

    Raises:
        InputError: a file cannot be read, or nobody says which data the metrics were measured on.
    """
    values: dict = {}
    for name, path in (("table", table), ("significance", significance)):
        if path is not None:
            values[name] = read_text(path).strip()
    if metrics is None:
        return values
    values["metrics"] = read_json(metrics)
    values["dataset"] = card_values.get("dataset") or values["metrics"].get("data")
    values["split"] = card_values.get("split") or values["metrics"].get("split")
    if values["dataset"] is None:
        raise InputError(f"{metrics} does not say which data it was measured on: name the dataset")
    return values


def paper_values(text: str) -> dict:
    """Look up "table1:M3SE:MSMARCO re-rank" -> the card's `paper`: a row of the paper, in the columns of one task.

    Raises:
        InputError: the paper has no such table, row or task; the message lists those it has.
    """
    table, row, task = (text.split(":") + ["", ""])[:3]
    if table not in TABLES:
        raise InputError(f"paper: no table {table!r}; expected TABLE:ROW:TASK with one of {', '.join(TABLES)}")
    printed = TABLES[table]
    if row not in printed.rows:
        raise InputError(f"paper: {table} has no row {row!r}, only {', '.join(printed.rows)}")
    prefix, measures = f"{task} " if task else "", {}
    for column in printed.columns:
        measure, value = column.removeprefix(prefix), printed.value(row, column)
        is_of_task = column.startswith(prefix) and " " not in measure
        if is_of_task and value is not None and (row, column) not in printed.doubtful:
            measures[measure] = value
    if not measures:
        columns = ", ".join(printed.columns)
        raise InputError(f"paper: {table}, {row} has no numbers for {task!r}; its columns are {columns}")
    source = ", ".join(filter(None, [f"Table {table.removeprefix('table')}", task]))
    return {"source": source, "model": row, "measures": measures}


def data_summary(data: dict) -> dict:
    """Return {name, queries, synthetic_queries, documents, documents_per_query} of the training lists, if recorded."""
    lists, collection = data.get("lists", {}), data.get("collection", {})
    summary = {
        "queries": lists.get("rows"),
        "synthetic_queries": collection.get("synthetic_queries"),
        "documents": collection.get("documents"),
        "documents_per_query": lists.get("documents_per_query"),
    }
    about = {name: value for name, value in data.items() if name not in ("lists", "collection")}
    return without_missing(summary) | about


def without_missing(values: dict) -> dict:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def data_notes(name: str) -> str | None:
    """Return what the licence of a data set asks of a model trained on it; None for data that is not known here."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    for dataset, notes in DATA_NOTES.items():
        if dataset in letters:
            return notes
    return None


def public_name(name: str) -> str:
    """Return a Hub id as it is, a local path by its last part."""
    return Path(name).name if Path(name).exists() or Path(name).is_absolute() else name


def public_hyperparameters(hyperparameters: dict) -> dict:
    """Return the hyperparameters that say how a model was trained; nothing of the machine, no option left at None."""
    public = {}
    for name, value in hyperparameters.items():
        if value not in (None, "", [], {}) and not PRIVATE.search(name):
            public[name] = value
    return public


def learning_curve(log_history: list[dict]) -> list[dict]:
    """Return dev and training metrics of each evaluation: rows {step, "dev nDCG@10", "train nDCG@10", …}."""
    rows = []
    for entry in log_history:
        row = {}
        for name, value in entry.items():
            prefix, _, measure = name.partition("_")
            if prefix in SPLITS and "@" in measure:
                row[f"{SPLITS[prefix]} {measure}"] = value
        if row:
            rows.append({"step": entry["step"], **row})
    return [row for row in rows if row.keys() == rows[0].keys()]


def example_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, query: str, documents: list[str]
) -> list[float]:
    """Score `documents` for `query`, as the model was trained to."""
    inputs = TextInputs.for_model(tokenizer, model.config)
    index = torch.arange(len(documents))[None]
    with torch.no_grad():
        batch = *inputs([query], "query"), *inputs(documents, "document")
        return model(*batch, document_index=index).scores[0].tolist()


def read_text(path: Path) -> str:
    """Read a text file; raises InputError naming it."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def read_json(path: Path) -> dict:
    """Read a JSON object; raises InputError naming the file."""
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
