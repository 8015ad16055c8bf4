import pytest

from m3se import InputError, RankingConfig
from m3se.run_scripts import distill, evaluate, make_retriever, score_with_teacher, train_teacher
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.cli.recipe import expand_recipe
from tests.worlds.small_world import RECIPES


SCRIPTS = {"teacher": train_teacher, "scores": score_with_teacher, "evaluate": evaluate, "quickstart": make_retriever}


FLAGS = sorted({*RECIPES.rglob("*.yaml")} - {*RECIPES.rglob("study.yaml"), RECIPES / "scales.yaml"})


@pytest.mark.parametrize("path", FLAGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_parses_with_the_right_types(path):
    script = SCRIPTS.get(path.stem, distill)
    arguments = parse(script.make_parser(), ["--recipe", str(path)])
    for config in arguments:
        if isinstance(config, RankingConfig):
            assert isinstance(config.learning_rate, float)


def recipe(tmp_path, text: str) -> list[str]:
    path = tmp_path / "recipe.yaml"
    path.write_text("data: lists\noutput_dir: out\n" + text, encoding="utf-8")
    return ["--recipe", str(path)]


def test_flags_override_the_recipe(tmp_path):
    *_, config = parse(distill.make_parser(), [*recipe(tmp_path, "learning_rate: 2e-5"), "--learning_rate", "1e-3"])
    assert config.learning_rate == 1e-3


def test_a_mapping_reaches_the_loss(tmp_path):
    *_, config = parse(distill.make_parser(), recipe(tmp_path, "loss_args:\n  temperature: 2.0"))
    assert config.loss_args == {"temperature": 2.0}


def test_lists_become_several_values(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("model:\n  - a\n  - b\n", encoding="utf-8")
    assert expand_recipe(["--recipe", str(path)]) == ["--model", "a", "b"]


def test_an_option_of_several_values_may_be_repeated_and_still_overrides_the_recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("model: [of the recipe]\noutput: o\ndepth: 7\n", encoding="utf-8")
    repeated = ["--model", "a", "b", "--depth", "3", "--model=c", "--depth", "4", "--model", "d"]
    (arguments,) = parse(evaluate.make_parser(), ["--recipe", str(path), *repeated])
    assert (arguments.model, arguments.depth, arguments.output) == (["a", "b", "c", "d"], 4, "o")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate: 2e-5", "recipe.yaml: unknown option --lerning_rate"),
        ("loss: m4se", "loss: expected one of softmax_ce, mse, .* got 'm4se'"),
        ("loss: m3se\nloss_args:\n  temperature: 2.0", "loss_args: m3se has hinge_power, got temperature"),
        ("loss:", "recipe.yaml: loss has no value"),
        ("loss: [unclosed", "recipe.yaml: not YAML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        parse(distill.make_parser(), recipe(tmp_path, text))


@pytest.mark.parametrize("late", [["--recipe", "a.yaml"], ["--recipe=a.yaml"]])
def test_a_recipe_comes_first(late):
    with pytest.raises(InputError, match="--recipe FILE must come first"):
        expand_recipe(["--layers", "2", *late])


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match="gone.yaml: no such recipe"):
        expand_recipe(["--recipe", str(tmp_path / "gone.yaml")])
