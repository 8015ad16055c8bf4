"""The models of one study together: a card that links them, and a collection on the Hub."""

from pathlib import Path

import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HTTPError

from m3se.hub_cards.card import render_collection
from m3se.run_scripts.publishing.hub_access import check_token, explain
from m3se.trainers.errors import InputError
from m3se.trainers.storage.atomic import write_text


DESCRIPTION = "A cross-encoder and the fast rankers distilled from it, after Menon et al. (ICML 2022)."
NOTE_LIMIT = 500  # characters, on the Hub


def write_collection_card(
    title: str, members: list[Path], folder: Path, namespace: str | None, datasets: list[str]
) -> Path:
    """Write `folder`/README.md with a row for each published folder, and return its path.

    Args:
        title: title of the collection.
        members: published folders.
        folder: where the card is written.
        namespace: owner of the models on the Hub, whom the links name; None for no links.
        datasets: Hub ids of the training data.

    Raises:
        InputError: no member, or one without a card.
    """
    rows = [describe(member, namespace) for member in members]
    if not rows:
        raise InputError("--members: name the published folders of the collection")
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / "README.md"
    write_text(card, render_collection(title, DESCRIPTION, rows, datasets))
    return card


def make_collection(api: HfApi, title: str, members: list[Path], namespace: str, datasets: list[str]) -> str:
    """Make a collection of the members' repositories and the data sets, teachers first; return its address.

    Items that are already there stay: a second call adds those that are missing.

    Args:
        api: whose endpoint and token are used.
        title: title of the collection.
        members: published folders.
        namespace: owner of the collection and of the models.
        datasets: Hub ids of the training data.

    Raises:
        InputError: no token, no access, or a member that is not on the Hub yet.
    """
    check_token(api)
    rows = [describe(member, namespace) for member in members]
    items = []
    for row in sorted(rows, key=lambda row: row["role"] != "teacher"):
        items.append((row["id"], "model", note(row)))
    for name in datasets:
        items.append((name, "dataset", "training data"))
    about = f"collection {namespace}/{title}"
    try:
        made = api.create_collection(title, namespace=namespace, description=DESCRIPTION, exists_ok=True)
        for name, kind, text in items:
            about = name
            api.add_collection_item(made.slug, name, kind, note=text, exists_ok=True)
    except HTTPError as error:
        raise InputError(f"{explain(error, about)}; the same command adds what is missing") from error
    return f"{api.endpoint}/collections/{made.slug}"


def describe(member: Path, namespace: str | None) -> dict:
    """Return {name, id, role, kind, results, dataset} of a published folder, from its card."""
    try:
        card = ModelCard((member / "README.md").read_text(encoding="utf-8")).data
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{member}: not a published folder: {error}") from error
    results = {result.metric_name: result.metric_value for result in card.eval_results or []}
    return {
        "name": member.resolve().name,
        "id": f"{namespace}/{member.resolve().name}" if namespace else None,
        "role": "teacher" if "cross-encoder" in card.tags else "student",
        "kind": next(kind for kind in ("cross-encoder", "ColBERT", "dense") if kind in card.tags),
        "results": results,
        "dataset": card.eval_results[0].dataset_name if card.eval_results else None,
    }


def note(row: dict) -> str:
    """Return the note beside a model in a collection: role, kind and results, as long as the Hub allows."""
    measured = ", ".join(f"{name} {value:.3f}" for name, value in row["results"].items())
    return f"{row['role']}: {row['kind']}{'; ' + measured if measured else ''}"[:NOTE_LIMIT]
