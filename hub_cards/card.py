"""Model cards: plain values in, the text of a README.md out.

A value that a card must have is an error when it is missing; a section that needs a value nobody has is left out.
Absent and None are the same. Required of every card:

    kind          "dual_encoder", "colbert" or "cross_encoder"
    custom_code   True when only our own class can hold the model
    name          title of the card
    load_id       what the usage snippets load: Hub id, or folder name
    fields        our config's fields: lengths, pooling …
    architecture  {"backbone", "layers", "parameters", "width"}
    example       {"query", "documents", "scores"}: what the snippets print was computed when the card was made

Everything else may be absent: base_model, license, language, datasets, data_notes, teacher, loss, loss_args, data,
hyperparameters, recipe, seed, versions, hardware, seconds, curve, metrics, dataset (with metrics), split, table,
significance, pictures, paper.
"""

import json
import re
from pathlib import Path

from huggingface_hub import ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .results import measures, model_index


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
REQUIRED = ("kind", "custom_code", "name", "load_id", "fields", "architecture", "example")
PIPELINE_TAGS = {
    "dual_encoder": "sentence-similarity",
    "colbert": "feature-extraction",
    "cross_encoder": "text-ranking",
}
KIND_TAGS = {
    "dual_encoder": ["feature-extraction", "dense"],
    "colbert": ["ColBERT", "PyLate", "multi-vector", "late-interaction"],
    "cross_encoder": ["cross-encoder", "reranker"],
}


def render_card(**values) -> str:
    """README.md of a model: YAML metadata and Markdown; see the module for the values.

    Raises:
        ValueError: a required value is missing; the metrics hold no measure, or one that is not a number.
        jinja2.UndefinedError: part of a value is missing; the message names it.
    """
    known = {key: value for key, value in values.items() if value is not None}
    if missing := [name for name in REQUIRED if name not in known]:
        raise ValueError(f"a card needs {', '.join(missing)}")
    body = ENVIRONMENT.get_template("model.md").render(
        known, measures=measures(known["metrics"]) if "metrics" in known else None
    )
    return f"---\n{metadata(known).to_yaml()}\n---\n\n{tidy(body)}"


def render_collection(title: str, description: str, rows: list[dict], datasets: list[str]) -> str:
    """The card of a study: `rows` of {name, id or None, role, kind, results {measure: value}, dataset or None}."""
    measures = list(dict.fromkeys(name for row in rows for name in row["results"]))
    template = ENVIRONMENT.get_template("collection.md")
    return tidy(template.render(title=title, description=description, rows=rows, datasets=datasets, measures=measures))


def metadata(values: dict) -> ModelCardData:
    """What the Hub reads: task, library, licence, relations, results."""
    kind = values["kind"]
    results = model_index(values["metrics"], values["dataset"], values.get("split")) if "metrics" in values else None
    base = {"base_model_relation": "finetune"} if "base_model" in values else {}
    return ModelCardData(
        language=values.get("language"),
        license=values.get("license"),
        library_name="transformers" if values["custom_code"] else "sentence-transformers",
        pipeline_tag=PIPELINE_TAGS[kind],
        tags=tags(values),
        base_model=values.get("base_model"),
        datasets=values.get("datasets"),
        metrics=sorted({name.partition("@")[0].lower() for name in measures(values["metrics"])}) if results else None,
        model_name=values["name"] if results else None,
        eval_results=results,
        **base,
    )


def tags(values: dict) -> list[str]:
    """Tags that the Hub's search and its library snippets go by."""
    found = [] if values["custom_code"] else ["sentence-transformers"]
    found += [*KIND_TAGS[values["kind"]], "m3se", "information-retrieval"]
    if "teacher" in values:
        found.append("distillation")
    if "loss" in values:
        found.append(f"loss:{values['loss']}")
    if "queries" in values.get("data", {}):
        found.append(f"dataset_size:{values['data']['queries']}")
    return found


def tidy(text: str) -> str:
    """No runs of empty lines where sections were left out; code blocks stay as they are."""
    lines: list[str] = []
    in_code = False
    for line in text.strip().splitlines():
        in_code ^= line.startswith("```")
        if in_code or line.strip() or lines[-1]:
            lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """90 -> '1.5 minutes'."""
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"


def number(value: float) -> str:
    """Thousands apart, and four digits behind the point at most."""
    return f"{value:.4g}" if isinstance(value, float) else f"{int(value):,}"


def quoted(value: object, indent: int | None = None) -> str:
    """A value as JSON, which for texts and lists of texts is Python too; what is undefined is an error."""
    return json.dumps(value, indent=indent, default=str)


def listed(texts: list[str]) -> str:
    """A list of texts as Python writes it, one to a line."""
    return "".join(["[\n", *(f"    {quoted(text)},\n" for text in texts), "]"])


def text(value: str) -> str:
    """A name from outside on one line, without what Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(str(value).split()))


def hub_link(name: str) -> str:
    """A Hub id as a link, any other name as text."""
    linked = re.fullmatch(r"[\w.-]+/[\w.-]+", name)
    return f"[{name}](https://huggingface.co/{name})" if linked else text(name)


ENVIRONMENT.filters.update(hub_link=hub_link, duration=duration, number=number, text=text, json=quoted, listed=listed)
