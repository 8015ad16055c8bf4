"""The YAML at the top of a card: task, library, licence, relations and results, as the Hub reads them."""

import re

from huggingface_hub import ModelCardData
from huggingface_hub.utils import validate_repo_id

from .results import families, model_index


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
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")


def check_metadata(values: dict) -> None:
    """Refuse a licence, a language or an id of another form than the Hub takes.

    The lists of licences and languages are the Hub's own: it is asked before an upload. This needs no network.

    Raises:
        ValueError: the message names the field, and what was expected.
    """
    license, language = values.get("license"), values.get("language")
    if license is not None and not LICENSE.fullmatch(license):
        raise ValueError(f"license: expected one of the Hub's, such as apache-2.0, mit or other, got {license!r}")
    if language is not None and not LANGUAGE.fullmatch(language):
        raise ValueError(f"language: expected an ISO 639 code such as en, or multilingual, got {language!r}")
    for field in ("base_model", "datasets"):
        value = values.get(field) or []
        for name in [value] if isinstance(value, str) else value:
            check_id(field, name)


def check_id(field: str, name: str) -> None:
    """Raise ValueError, naming the card's field, for a name that cannot be an id of the Hub, such as a path."""
    try:
        validate_repo_id(name)
    except ValueError:
        raise ValueError(f"{field}: expected an id of the Hub, such as org/name, got {name!r}") from None


def make_metadata(values: dict) -> ModelCardData:
    """Return the metadata of a card with these values; raises ValueError as `check_metadata` does."""
    check_metadata(values)
    metrics = values.get("metrics")
    results = model_index(metrics, values["dataset"], values.get("split")) if metrics is not None else None
    base = {"base_model_relation": "finetune"} if "base_model" in values else {}
    return ModelCardData(
        language=values.get("language"),
        license=values.get("license"),
        library_name="transformers" if values["custom_code"] else "sentence-transformers",
        pipeline_tag=PIPELINE_TAGS[values["kind"]],
        tags=make_tags(values),
        base_model=values.get("base_model"),
        datasets=values.get("datasets"),
        metrics=families(metrics) if results else None,
        model_name=values["name"] if results else None,
        eval_results=results,
        **base,
    )


def make_tags(values: dict) -> list[str]:
    """Return the tags that the Hub's search and its library snippets go by."""
    tags = [] if values["custom_code"] else ["sentence-transformers"]
    tags += [*KIND_TAGS[values["kind"]], "m3se", "information-retrieval"]
    if "teacher" in values:
        tags.append("distillation")
    if "loss" in values:
        tags.append(f"loss:{values['loss']}")
    if "queries" in values.get("data", {}):
        tags.append(f"dataset_size:{values['data']['queries']}")
    return tags
