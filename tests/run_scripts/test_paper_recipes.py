import shlex

import pytest

from m3se import LOSSES, RankingConfig
from m3se.run_scripts import distill, score_with_teacher, train_teacher
from m3se.run_scripts.cli.app import parse
from tests.worlds.small_world import RECIPES


PAPER = RECIPES / "paper"
SCRIPTS = {"distill.py": distill, "score_with_teacher.py": score_with_teacher, "train_teacher.py": train_teacher}
COMMANDS = [
    line.split("`")[1] for line in (PAPER / "README.md").read_text(encoding="utf-8").splitlines() if "--recipe" in line
]
TRAINED = sorted(path.stem for path in PAPER.glob("*.yaml") if path.stem != "scores")


def parsed(command: str) -> tuple:
    script, *arguments = shlex.split(command)
    return parse(SCRIPTS[script].make_parser(), arguments)


def of_kind(arguments: tuple, field: str):
    """The value of an option, in whichever of the dataclasses it is."""
    return next(vars(part)[field] for part in arguments if field in vars(part))


@pytest.mark.parametrize("name", TRAINED)
def test_every_recipe_has_the_protocol_of_appendix_b(name):
    script = "train_teacher.py" if name == "teacher" else "distill.py"
    arguments = parsed(f"{script} --recipe {PAPER / name}.yaml")
    expected = {
        "learning_rate": 2.8e-5,
        "per_device_train_batch_size": 128,
        "gradient_accumulation_steps": 1,
        "max_steps": 300_000,
        "query_length": 30,
        "document_length": 200,
        "dropout": 0.1,
        "metric_for_best_model": "nDCG@10",
        "greater_is_better": True,
        "eval_strategy": "steps",
        "eval_steps": 4000,
        "save_steps": 4000,
        "early_stopping_patience": 30,
        "load_best_model_at_end": True,
        "output_dir": f"outputs/paper/{name}",
    }
    if name != "teacher":
        expected |= {"embedding_dropout": 0.1, "tied": True, "layers": None}
    assert {option: of_kind(arguments, option) for option in expected} == expected
    assert of_kind(arguments, "optim").startswith("adamw")


def test_the_distilled_baselines_see_triples_and_the_others_whole_lists():
    seen = {
        name: of_kind(parsed(f"distill.py --recipe {PAPER / name}.yaml"), "sample_documents")
        for name in TRAINED
        if name.startswith("de_") and name != "de_one_hot"
    }
    triples = dict.fromkeys(["de_mse", "de_margin_mse", "de_rankdistil_b"], 2)
    assert seen == triples | dict.fromkeys(["de_m3se", "de_softmax_ce"])


def test_every_loss_of_table_1_has_a_recipe():
    losses = {
        of_kind(parsed(f"distill.py --recipe {PAPER / name}.yaml"), "loss") for name in TRAINED if name != "teacher"
    }
    assert losses == LOSSES.keys() - {"focal"}  # which is a flag away, in Table 9


def test_lists_have_2_10_20_or_100_documents():
    sizes = {of_kind(parsed(command), "documents_per_query") for command in COMMANDS if command.startswith("score")}
    assert sizes == {2, 10, 20, 100, 1000}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_table_parses(command):
    arguments = parsed(command)
    configs = [part for part in arguments if isinstance(part, RankingConfig)]
    assert bool(configs) == (not command.startswith("score"))


def test_every_command_writes_somewhere_else():
    folders = [
        of_kind(parsed(command), "output" if command.startswith("score") else "output_dir") for command in COMMANDS
    ]
    assert len(set(folders)) == len(folders)
