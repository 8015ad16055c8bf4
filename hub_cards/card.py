"""Model cards: plain values in, the text of a README.md out.

A value that a card must have is an error when it is missing; a section that needs a value nobody has is left out.
Absent and None are the same. Required of every card:

    kind          "dual_encoder", "colbert" or "cross_encoder"
    custom_code   True when only our own class can hold the model
    name          title of the card
    load_id       what the usage snippets load: Hub id, or folder name
    fields        our config's fields: lengths, pooling …
    architecture  {"backbone", "layers", "parameters", "width"}, and "auto_class" where it is not AutoModel
    example       {"query", "documents", "scores"}: what the snippets print was computed when the card was made

Everything else may be absent: base_model, license, language, datasets, data_notes, teacher, loss, loss_args, data,
hyperparameters, score_scale, recipe, seed, versions, hardware, seconds, curve, metrics, dataset (with metrics), split,
table, significance, pictures, paper, compiled (files for other libraries) and calibration (the data of their int8). A
student that matched another model's embeddings has matched_to, that model's name. One that began as an encoder's first
layers, after these had matched all its layers, has first_layers_of, the encoder's name. One whose negatives were drawn
anew has refresh {"steps", "depth", "teacher" (its name, or None)}. A query encoder whose documents another model
embeds has document_tower {"name", "layers", "parameters"} and query_cost {"query", "document" (milliseconds of a query
by either), "hardware"}.
"""

import json
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .metadata import make_metadata
from .results import measures


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
REQUIRED = ("kind", "custom_code", "name", "load_id", "fields", "architecture", "example")


def render_card(**values) -> str:
    """Return the README.md of a model, YAML metadata and Markdown; see the module for the values.

    Raises:
        ValueError: a required value is missing; the metrics hold no measure, or one that is not a number; a licence,
            language or id that the Hub would refuse.
        jinja2.UndefinedError: part of a value is missing; the message names it.
    """
    present = {key: value for key, value in values.items() if value is not None}
    if missing := [name for name in REQUIRED if name not in present]:
        raise ValueError(f"a card needs {', '.join(missing)}")
    results = measures(present["metrics"]) if "metrics" in present else None
    prompted = prompted_texts(present["example"], present["fields"])
    body = ENVIRONMENT.get_template("model.md").render(present, measures=results, **prompted)
    return f"---\n{make_metadata(present).to_yaml()}\n---\n\n{tidy(body)}"


def prompted_texts(example: dict, fields: dict) -> dict[str, str]:
    """Return the Python of the example's texts with the model's prompts before them, for libraries that add none.

    Keys: `prompted_query` a query, `prompted_text` a document named `text`, `prompted_documents` the list `documents`.
    """
    query, text, documents = quoted(example.get("query")), "text", "documents"
    if fields.get("query_prompt"):
        query = f"{quoted(fields['query_prompt'])} + {query}"
    if fields.get("document_prompt"):
        text = f"{quoted(fields['document_prompt'])} + text"
        documents = f"[{text} for text in documents]"
    return {"prompted_query": query, "prompted_text": text, "prompted_documents": documents}


def code(value: object) -> str:
    """Format a value as JSON in the type of code, for a cell of a table."""
    return f"`{quoted(value)}`".replace("|", "\\|")


def render_collection(title: str, description: str, rows: list[dict], datasets: list[str]) -> str:
    """Return the card of a study.

    `rows` have the entries name, id (or None), role, kind, results {measure: value} and dataset (or None).
    """
    measures = list(dict.fromkeys(name for row in rows for name in row["results"]))
    template = ENVIRONMENT.get_template("collection.md")
    return tidy(template.render(title=title, description=description, rows=rows, datasets=datasets, measures=measures))


def tidy(text: str) -> str:
    """Remove runs of empty lines, where sections were left out, and trailing spaces; code blocks keep their lines."""
    lines: list[str] = []
    in_code = False
    for line in text.strip().splitlines():
        in_code ^= line.startswith("```")
        if in_code or line.strip() or lines[-1]:
            lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Format seconds in the unit that suits them: 90 -> '1.5 minutes'."""
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"


def number(value: float) -> str:
    """Format with commas between thousands, a float with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else f"{int(value):,}"


def quoted(value: object, indent: int | None = None) -> str:
    """Format a value as JSON, which for texts and lists of texts is Python too. Raises TypeError when undefined."""
    return json.dumps(value, indent=indent, default=str)


def listed(texts: list[str]) -> str:
    """Format a list of texts as Python writes it, one to a line."""
    lines = [f"    {quoted(text)}," for text in texts]
    return "\n".join(["[", *lines, "]"])


def text(value: str) -> str:
    """Put a name from outside on one line and escape what Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(str(value).split()))


def hub_link(name: str) -> str:
    """Format a Hub id as a link, any other name as text."""
    linked = re.fullmatch(r"[\w.-]+/[\w.-]+", name)
    return f"[{name}](https://huggingface.co/{name})" if linked else text(name)


ENVIRONMENT.filters.update(
    hub_link=hub_link, duration=duration, number=number, text=text, json=quoted, code=code, listed=listed
)
