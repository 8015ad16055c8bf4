"""The folder of a Space."""

import ast

import pytest
import yaml

from m3se import __version__
from m3se.run_scripts import publish
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.publishing.space import GRADIO, write_space
from m3se.trainers.errors import InputError


def test_the_folder_holds_a_program_that_starts_from_the_model_alone(tmp_path, capsys):
    options = ["--space", "org/page", "--repo", "org/de-m3se", "--folder", str(tmp_path / "space"), "--license", "mit"]
    publish.main(*parse(publish.make_parser(), options))
    folder = tmp_path / "space"
    assert {path.name for path in folder.iterdir()} == {"README.md", "app.py", "requirements.txt", "SHA256SUMS"}
    _, metadata, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n")
    about = yaml.safe_load(metadata)
    assert {name: about[name] for name in ("title", "sdk", "sdk_version", "app_file", "license", "models")} == {
        "title": "page",
        "sdk": "gradio",
        "sdk_version": GRADIO,
        "app_file": "app.py",
        "license": "mit",
        "models": ["org/de-m3se"],
    }
    assert len(about["short_description"]) <= 60  # the Hub's limit
    assert "https://huggingface.co/org/de-m3se" in body
    assert f"m3se[demo-page]>={__version__}" in (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    program = ast.parse((folder / "app.py").read_text(encoding="utf-8"))
    constants = [node.value for node in ast.walk(program) if isinstance(node, ast.Constant)]
    assert constants.count("org/de-m3se") == 1
    assert f"hf upload org/page {folder} --type space" in capsys.readouterr().out


def test_a_space_is_written_again_over_itself_and_over_nothing_else(tmp_path):
    for model in ("org/a", "org/b"):
        write_space("org/page", model, tmp_path / "space")
    assert "'org/b'" in (tmp_path / "space" / "app.py").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new folder or one of a Space"):
        write_space("org/page", "org/a", tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("space", "model", "license", "message"),
    [
        ("org/page", None, None, "--repo: which published model"),
        ("org/page", "outputs/a/model", None, "model: expected an id of the Hub"),
        ("a b", "org/a", None, "space: expected an id of the Hub"),
        ("org/page", "org/a", "No Licence", "license: expected one of the Hub's"),
    ],
)
def test_an_id_that_the_hub_would_refuse_is_named(tmp_path, space, model, license, message):
    with pytest.raises(InputError, match=message):
        write_space(space, model, tmp_path / "space", license)
    assert not (tmp_path / "space").exists()
