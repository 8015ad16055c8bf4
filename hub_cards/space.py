"""The files of a Space that serves a published model: its card, its requirements and its program."""

from huggingface_hub import SpaceCardData

from .card import ENVIRONMENT, tidy
from .metadata import check_id, check_metadata


PYTHON = "3.12"
SHORT_DESCRIPTION = "A distilled ranker beside BM25, on texts you bring"
REQUIREMENTS = """--extra-index-url https://download.pytorch.org/whl/cpu
m3se[demo-page]>={version}
"""
PROGRAM = '''"""A page that ranks texts with {model}, beside BM25."""

import os

from m3se.run_scripts.demo_page.space import start


if __name__ == "__main__":
    start(os.environ.get("MODEL", {model!r}))
'''


def render_space(
    space: str, model: str, version: str, gradio_version: str, license: str | None = None
) -> dict[str, str]:
    """Return the text of each file of a Space, by its name.

    Args:
        space: Hub id of the Space.
        model: Hub id of the model.
        version: of m3se, the oldest that will do.
        gradio_version: the version of Gradio that the Space runs with.
        license: of the Space's program, as the Hub names it.

    Raises:
        ValueError: an id or the licence has not the form that the Hub takes.
    """
    check_id("space", space)
    check_id("model", model)
    check_metadata({"license": license})
    title = space.rpartition("/")[2]
    data = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=gradio_version,
        python_version=PYTHON,
        app_file="app.py",
        license=license,
        models=[model],
        emoji="🔎",
        colorFrom="blue",
        colorTo="green",
        short_description=SHORT_DESCRIPTION,
        pinned=False,
    )
    body = ENVIRONMENT.get_template("space.md").render(title=title, model=model)
    return {
        "README.md": f"---\n{data.to_yaml()}\n---\n\n{tidy(body)}",
        "requirements.txt": REQUIREMENTS.format(version=version),
        "app.py": PROGRAM.format(model=model),
    }
