"""What a study's report says of its figures, from diagnoses of two seeds."""

import json
from pathlib import Path

import pytest

from m3se.run_scripts.reproduction.plan import Planner
from m3se.run_scripts.reproduction.report import diagnoses, write_report
from m3se.run_scripts.reproduction.results import collect
from m3se.run_scripts.reproduction.study import RECIPES, read_scale, read_study
from m3se.run_scripts.work.reproduce import plan


SEEDS = [3, 5]
PAGE = "# CA, DE, DIST on words\n\n## Learning curves\n\nOf seed {0}.\n\n![Learning curves](learning_curves.png)\n"


@pytest.fixture
def study():
    return read_study("figure4", read_scale("small", RECIPES))


@pytest.fixture
def planner(tmp_path):
    return Planner(read_scale("small", RECIPES), "nowhere/words", tmp_path)


def diagnose(planner: Planner, study, seed: int, gaps: dict) -> None:
    """What diagnose.py leaves behind, as far as reports read it."""
    folder = planner.diagnosis(study, seed, SEEDS[0]).folder
    folder.mkdir(parents=True)
    summary = {
        "generalisation_gap": gaps,
        "agreement": {"DE": {"mean_tau": 0.5 + seed / 10, "top_1": 0.25}, "DIST": {"mean_tau": None, "top_1": 0.75}},
        "capacity": {"queries": 8, "documents": 16},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "diagnostics.md").write_text(PAGE.format(seed), encoding="utf-8")
    (folder / "learning_curves.png").write_bytes(bytes([seed]))


def test_figures_of_models_are_averaged_over_seeds(planner, study):
    diagnose(planner, study, 3, {"CA": 0.25, "DE": 0.5})
    diagnose(planner, study, 5, {"CA": 0.25, "DE": 1.0})
    found = collect(study, planner, SEEDS)["diagnosis"]
    assert found["generalisation_gap"]["CA"] == {"mean": 0.25, "sd": None, "seeds": {3: 0.25, 5: 0.25}}
    assert found["generalisation_gap"]["DE"] == {
        "mean": 0.75,
        "sd": pytest.approx(0.5 / 2**0.5),
        "seeds": {3: 0.5, 5: 1.0},
    }
    assert found.keys() == {"generalisation_gap", "agreement mean_tau", "agreement top_1"}  # capacity is of no model
    assert found["agreement mean_tau"].keys() == {"DE"}  # undefined for the other


def test_a_report_shows_the_first_seeds_pictures_and_what_all_seeds_say(planner, study):
    diagnose(planner, study, 3, {"CA": 0.25, "DE": 0.5})
    diagnose(planner, study, 5, {"CA": 0.25, "DE": 1.0})
    report = write_report(study, planner, SEEDS)
    assert "| generalisation gap | 0.250 | 0.750 ± 0.354 | – |" in report
    assert "The figures below are of seed 3." in report
    assert "Of seed 3." in report and "Of seed 5." not in report
    assert (Path(planner.output) / "figure4" / "learning_curves.png").read_bytes() == bytes([3])


def test_of_one_seed_the_figures_themselves_speak(planner, study):
    diagnose(planner, study, 3, {"CA": 0.25, "DE": 0.5})
    assert diagnoses(collect(study, planner, SEEDS)) == ""


def test_every_seed_is_diagnosed(planner, study):
    names = {job.name for job in plan([study], planner, SEEDS) if job.script == "diagnose.py"}
    assert names == {planner.diagnosis(study, seed, SEEDS[0]).name for seed in SEEDS}
    assert len(names) == 2
