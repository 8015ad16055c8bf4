"""--help is short, shows what recipes set, and leaves the script's text as it was written."""

import re
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from transformers import TrainingArguments

from m3se import LOSSES, RankingConfig
from m3se.run_scripts.cli import app as cli
from m3se.run_scripts.cli.help_page import ALL
from m3se.run_scripts.cli.recipe import read_recipe
from m3se.run_scripts.cli.training_options import UsualOptions
from m3se.trainers.options import LOSS_NAMES


RECIPES = Path(__file__).parents[3] / "run_scripts/recipes"
SCRIPTS = {"teacher.yaml": "train_teacher", "de_m3se.yaml": "distill", "scores.yaml": "score_with_teacher"}


@pytest.fixture
def shown(monkeypatch, capsys):
    """What a script prints for some arguments, in a window of 100 columns."""

    def show(name: str, *argv: str, status: int = 0) -> str:
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *argv])
        script = import_module(f"m3se.run_scripts.{name}")
        with pytest.raises(SystemExit) as ended:
            cli.run(script.make_parser, script.main)
        assert ended.value.code == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return show


def options(page: str) -> list[str]:
    return re.findall(r"^  --(\w+)", page, re.MULTILINE)


def entry(page: str, option: str) -> str:
    """The lines of an option, with single spaces."""
    found = re.search(rf"^  --{option}\b.*(\n {{10,}}.*)*", page, re.MULTILINE)
    return " ".join(found.group(0).split())


def test_text_of_the_script_keeps_its_lines(shown):
    page = shown("distill", "--help")
    assert page.startswith("usage: distill.py [--recipe FILE] [--option value ...]\n\nDistil a teacher's scores")
    assert "\n    accelerate launch run_scripts/distill.py --recipe run_scripts/recipes/stages/de_m3se.yaml\n" in page
    assert "run_scripts/mine.py --model outputs/quickstart/model --data pydocs --split train --count 20 \\\n" in shown(
        "mine", "--help"
    )
    assert "[--option value ...] query ...\n" in shown("search", "--help")


@pytest.mark.parametrize(("recipe", "script"), SCRIPTS.items())
@pytest.mark.parametrize("folder", ["stages", "paper"])
def test_what_recipes_set_is_shown(recipe, script, folder, shown):
    assert set(read_recipe(RECIPES / folder / recipe)) <= set(options(shown(script, "--help")))


def test_unusual_options_are_shown_only_if_asked(shown):
    page, full = shown("distill", "--help"), shown("distill", ALL)
    assert "fsdp_config" not in page and "hub_token" not in page
    trainer = {field.name for field in fields(TrainingArguments)}
    usual = {field.name for field in fields(UsualOptions)}
    assert set(options(page)) == set(options(full)) - (trainer - usual)
    assert trainer - set(options(full)) == {field.name for field in fields(TrainingArguments) if not field.init}
    assert ALL not in shown("evaluate", "--help")
    assert entry(page, "optim").startswith("--optim OPTIM ")
    assert "adafactor" in entry(full, "optim")


def test_our_options_come_before_trainers_and_each_once(shown):
    page = shown("train_teacher", "--help")
    names = options(page[page.index("\ntraining:\n") :])
    assert names.index("loss") == 0 and names.index("early_stopping_patience") < names.index("output_dir")
    assert len(options(page)) == len(set(options(page)))
    assert "no_tied" not in shown("distill", "--help")


def test_defaults_are_named_once_and_only_where_there_is_one(shown):
    page = shown("distill", "--help")
    assert entry(page, "data").endswith("the loss needs none. (required)")
    assert entry(page, "pooling").endswith("(default: what the encoder's folder says, else cls).")
    assert entry(page, "layers").endswith("0, for a dual encoder: its token embeddings alone.")
    assert entry(page, "embedding_dropout").startswith("--embedding_dropout EMBEDDING_DROPOUT Dropout")
    assert entry(page, "embedding_dropout").endswith("(default: 0.1)")
    assert entry(page, "tied").startswith("--tied [true|false] ") and entry(page, "tied").endswith("(default: True)")


def test_a_wrong_value_shows_one_line_of_usage(shown):
    errors = shown("distill", "--data", "lists", "--layers", "two", status=2).splitlines()
    assert errors[0] == "usage: distill.py [--recipe FILE] [--option value ...]"
    assert "invalid int value: 'two'" in errors[1] and len(errors) == 2


def test_the_description_of_trainers_options_is_true():
    """Each has the default of the option that is parsed, and stands for one of Trainer's."""
    parsed = {field.name: field for field in fields(RankingConfig)}
    trainers = {field.name for field in fields(TrainingArguments)}
    for field in fields(UsualOptions):
        assert field.name in trainers
        default = parsed[field.name].default
        assert field.default == getattr(default, "value", default), field.name


def test_the_losses_and_only_they_are_named():
    assert list(LOSSES) == list(LOSS_NAMES)
