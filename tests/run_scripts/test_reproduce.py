import json
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from m3se import InputError
from m3se.run_scripts import diagnose, distill, evaluate, reproduce, score_with_teacher, train_teacher
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.cli.recipe import as_flag
from m3se.run_scripts.reproduction.data import split_collection
from m3se.run_scripts.reproduction.plan import Job, Planner
from m3se.run_scripts.reproduction.results import gaps_closed, mean_evaluation, share
from m3se.run_scripts.reproduction.run import Running, run_all, timed
from m3se.run_scripts.reproduction.study import RECIPES, merged, read_scale, read_study, study_names
from m3se.run_scripts.work.reproduce import plan
from m3se.trainers.evaluation.run_metrics import Evaluation
from tests.reliability.forked import Run
from tests.worlds.small_world import write_collection, write_encoder
from tests.worlds.studies import fork_jobs


SCRIPTS = {
    "train_teacher.py": train_teacher,
    "score_with_teacher.py": score_with_teacher,
    "distill.py": distill,
    "evaluate.py": evaluate,
    "diagnose.py": diagnose,
}
SELECTION = {"measure": "MRR@10", "trials": {"default": [{"learning_rate": 1e-4}, {"learning_rate": 1e-2}]}}

STUDY = {
    "title": "Losses",
    "table": "table1",
    "baseline": "one-hot",
    "upper": "CA",
    "columns": {"rerank MRR@10": "MSMARCO re-rank MRR@10", "nowhere MRR@10": "NQ re-rank MRR@10"},
    "rows": {
        "CA": {"model": "teacher", "paper_row": "Cross-attention BERT (12-layer)"},
        "one-hot": {"model": "one_hot", "paper_row": "Dual-encoder BERT (6-layer)"},
        "M3SE": {"model": "m3se", "paper_row": "M3SE"},
    },
}


def write_recipes(root: Path, selection: dict = SELECTION) -> Path:
    """Recipes of a tiny scale, and a study of a teacher and two students."""
    folder = root / "recipes"
    (folder / "losses").mkdir(parents=True)
    common = {
        "encoder": str(root / "encoder"),
        "query_length": 8,
        "document_length": 16,
        "dropout": 0.0,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "dev_queries": 2,
        "dev_depth": 5,
        "train_sample_size": 4,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "output_dir": "unused",
    }
    recipes = {
        "teacher": common | {"data": "data/words", "documents_per_query": 3, "depth": 10},
        "scores": {
            "teacher": "unused",
            "data": "data/words",
            "documents_per_query": 4,
            "depth": 10,
            "output": "unused",
        },
        "student": common | {"data": "unused", "dev_data": "data/words", "layers": 1, "pooling": "mean"},
    }
    scale = {
        "about": "tiny",
        "data": "data/words",
        "documents": 60,
        "held_out": 4,
        "flops": 1e9,
        "flops_basis": "a guess",
        "teacher": {"recipe": "teacher.yaml"},
        "lists": {"recipe": "scores.yaml"},
        "students": {
            "one_hot": {"recipe": "student.yaml", "set": {"loss": "softmax_ce"}},
            "m3se": {"recipe": "student.yaml", "set": {"loss": "m3se"}},
        },
        "selection": selection,
        "evaluations": {
            "rerank": {"split": "test", "candidates": "bm25", "depth": 10},
            "retrieval": {"split": "test", "retrieve": True, "depth": 10},
        },
    }
    for name, content in {**recipes, "scales": {"small": scale}, "losses/study": STUDY}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder


ONLY_SMALL = ("unseen", "paper")  # the paper takes the scores that others have published


def planner_of(recipes: Path, output: Path, data: str = "nowhere/words") -> Planner:
    return Planner(read_scale("small", recipes), data, output)


def finish(job, dev: float) -> None:
    """What a training leaves behind, as far as plans read it."""
    job.folder.mkdir(parents=True)
    record = {"log_history": [{"step": 1, "eval_MRR@10": dev}]}
    (job.folder / "training.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture
def planner(tmp_path):
    return planner_of(write_recipes(tmp_path), tmp_path / "out")


def test_jobs_come_after_what_they_need_and_students_share_teacher_and_lists(planner):
    jobs = plan([read_study("losses", planner.scale)], planner, [0])
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for job in jobs:
        assert all(names.index(need.name) < names.index(job.name) for need in (*job.needs, *job.waits_for))
    scripts = [job.script for job in jobs]
    assert scripts.count("train_teacher.py") == scripts.count("score_with_teacher.py") == 1
    assert scripts.count("distill.py") == 4  # two losses, two trials each: the better one is the row's first seed


def test_nothing_but_the_teacher_is_ready_at_first(planner):
    jobs = plan([read_study("losses", planner.scale)], planner, [0])
    assert [job.script for job in jobs if job.ready] == ["train_teacher.py"]


def test_the_trial_that_is_best_on_dev_is_used_for_every_seed(planner):
    study = read_study("losses", planner.scale)
    row = study.rows["M3SE"]
    first, second = (job for _, job in planner.trials("m3se", 0))
    assert planner.training(row, 1, 0).waits_for == (first, second)
    finish(first, 0.3)
    assert not planner.measured(study, row, 0, 0).evaluations["rerank"].ready  # it may not be the one to measure
    finish(second, 0.4)
    assert planner.training(row, 0, 0) == second
    later = planner.training(row, 1, 0)
    assert (later.options["learning_rate"], later.options["seed"], later.waits_for) == (1e-2, 1, ())


def test_a_job_is_another_one_when_anything_it_depends_on_changes(planner, tmp_path):
    row = read_study("losses", planner.scale).rows["M3SE"]
    name = planner.training(row, 0, 0).name
    assert planner_of(planner.scale.recipes, tmp_path / "elsewhere").training(row, 0, 0).name == name
    recipe = planner.scale.recipes / "teacher.yaml"  # which the student's lists are scored with
    recipe.write_text(recipe.read_text(encoding="utf-8") + "learning_rate: 1.0e-5\n", encoding="utf-8")
    assert planner.training(row, 0, 0).name != name


def test_options_name_the_given_data_and_the_folders_of_other_jobs(planner):
    job = planner.training(read_study("losses", planner.scale).rows["M3SE"], 0, 0)
    assert job.options["dev_data"] == "nowhere/words"
    assert job.options["data"] == str(job.needs[0].folder)
    assert job.needs[0].options["teacher"] == str(job.needs[0].needs[0].folder)


def test_a_cross_encoder_does_not_search(planner):
    study = read_study("losses", planner.scale)
    study.columns["retrieval MRR@10"] = None
    kinds = {name: set(planner.measured(study, row, 0, 0).evaluations) for name, row in study.rows.items()}
    assert kinds == {"CA": {"rerank"}, "one-hot": {"rerank", "retrieval"}, "M3SE": {"rerank", "retrieval"}}


def test_a_diagnosis_has_the_size_of_its_scale_unless_the_study_says_otherwise(tmp_path):
    planner = Planner(scale := read_scale("small", RECIPES), scale.data, tmp_path)
    study = read_study("table3", scale)
    assert planner.diagnosis(study, 0, 0).options.items() >= scale.diagnosis.items()
    assert scale.diagnosis["max_queries"] == 60
    study.diagnose["set"] = {"depth": 5}
    assert planner.diagnosis(study, 0, 0).options["depth"] == 5


def test_unequal_budgets_are_refused(tmp_path):
    trials = SELECTION["trials"] | {"m3se": [{"learning_rate": 1e-3}]}
    recipes = write_recipes(tmp_path, SELECTION | {"trials": trials})
    with pytest.raises(InputError, match="as many trials as the others, got {'default': 2, 'm3se': 1}"):
        read_scale("small", recipes)


def test_dev_is_held_out_of_train_and_test_is_left_alone(tmp_path):
    source = write_collection(tmp_path / "words")
    folder = split_collection(source, tmp_path / "split", 4)
    queries = {
        split: [line.split("\t")[0] for line in (folder / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]]
        for split in ("train", "dev")
    }
    whole = [line.split("\t")[0] for line in (source / "qrels" / "train.tsv").read_text().splitlines()[1:]]
    assert len(queries["dev"]) == 4
    assert sorted(queries["train"] + queries["dev"]) == sorted(whole)
    assert (folder / "qrels" / "test.tsv").read_text() == (source / "qrels" / "test.tsv").read_text()


def test_values_are_averaged_over_seeds_query_by_query(tmp_path):
    for seed, (a, b) in enumerate([(1.0, 0.0), (0.5, 0.5)]):
        (tmp_path / str(seed)).mkdir()
        rows = [{"query_id": "a", "MRR@10": a}, {"query_id": "b", "MRR@10": b}]
        (tmp_path / str(seed) / "per_query.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = mean_evaluation([tmp_path / "0", tmp_path / "1"])
    assert found.per_query == {"a": {"MRR@10": 0.75}, "b": {"MRR@10": 0.25}}
    assert found.values == {"MRR@10": 0.5}


def test_the_share_of_the_gap_is_the_papers():
    assert share(0.349, 0.310, 0.370) == pytest.approx(0.65)
    assert share(0.5, 0.4, 0.4) is None
    per_query = {"DE": [0.2, 0.42], "CA": [0.3, 0.44], "M3SE": [0.3, 0.398], "BM25": [0.1, 0.1]}
    evaluations = {
        name: Evaluation({"MRR@10": sum(values) / 2}, {q: {"MRR@10": v} for q, v in zip("ab", values, strict=True)}, 0)
        for name, values in per_query.items()
    }
    found = gaps_closed(evaluations, "DE", "CA")
    assert found.keys() == {("M3SE", "MRR@10")}
    assert found["M3SE", "MRR@10"]["gap_closed"] == pytest.approx(0.65)
    # of two queries four samples: a a, b b and twice a b
    assert found["M3SE", "MRR@10"]["gap_closed_95"] == pytest.approx((-1.1, 1.0))
    assert gaps_closed(evaluations, "DE", None) == {}
    assert gaps_closed(evaluations, "CA", "DE") == {}


def test_mappings_are_merged_and_values_replaced():
    both = merged({"a": 1, "loss_args": {"temperature": 2}}, {"a": 3, "loss_args": {"label_smoothing": 0.1}})
    assert both == {"a": 3, "loss_args": {"temperature": 2, "label_smoothing": 0.1}}


def test_a_study_that_a_scale_has_no_rows_for_says_so():
    with pytest.raises(InputError, match="none of its rows is for scale paper"):
        read_study("unseen", read_scale("paper", RECIPES))


def test_a_scale_whose_models_are_not_reranked_cannot_be_transferred(tmp_path):
    argv = ["--study", "table1", "--scale", "paper_nq", "--transfer", "words", "--output", str(tmp_path), "--dry_run"]
    with pytest.raises(InputError, match="--transfer: scale paper_nq has no evaluation rerank"):
        reproduce.main(*parse(reproduce.make_parser(), argv))


@pytest.mark.parametrize(
    "name, scale",
    [(name, scale) for name in study_names(RECIPES) for scale in ("small", "paper") if (name, scale) != ONLY_SMALL],
)
def test_every_study_plans_runs_that_its_scripts_accept(name, scale, tmp_path):
    planner = Planner(scale := read_scale(scale, RECIPES), scale.data, tmp_path)
    jobs = plan([read_study(name, planner.scale)], planner, [0])
    for job in {job.script + job.name.rsplit("-", 1)[0]: job for job in jobs}.values():
        argv = [
            part
            for key, value in job.options.items()
            for part in (f"--{key}", *map(as_flag, value if isinstance(value, list) else [value]))
        ]
        parse(SCRIPTS[job.script].make_parser(), argv)


def reproduced(root: Path, **more: object) -> str:
    """What reproduce.py says, its jobs and itself in forks of this process."""
    flags = {"study": "losses", "recipes": root / "recipes", "data": root / "words", "output": root / "out"}
    run = Run("reproduce", flags | {"seeds": 0} | more, root, before=partial(fork_jobs, root)).finish()
    text = "\n".join(run["lines"])
    assert run["status"] == 0, text
    return text


@pytest.mark.linux
@pytest.mark.slow
def test_a_study_runs_to_its_report_and_again_without_running_anything(tmp_path):
    write_collection(tmp_path / "words")
    write_encoder(tmp_path / "encoder")
    write_recipes(tmp_path, SELECTION | {"trials": {"default": [{"learning_rate": 1e-3}]}})
    said = reproduced(tmp_path)
    results = json.loads((tmp_path / "out" / "losses" / "results.json").read_text(encoding="utf-8"))
    assert results["missing"] == []
    assert list(results["rows"]) == ["CA", "one-hot", "M3SE", "BM25"]
    assert results["paper"]["M3SE"] == {"rerank MRR@10": 0.349}
    report = (tmp_path / "out" / "losses" / "report.md").read_text(encoding="utf-8")
    assert all(line in said for line in report.splitlines() if line)
    assert (tmp_path / "out" / "losses" / "comparison.png").is_file() and "](comparison.png)" in report
    mean = results["rows"]["M3SE"]["values"]["rerank MRR@10"]["mean"]
    assert any(line.startswith(f"| M3SE | 1 | {mean:.4f}") and "0.349" in line for line in report.splitlines())
    assert "7 runs, 7 of them done" in reproduced(tmp_path, dry_run=True)


ECHO = """
import os, sys
from pathlib import Path
print(sys.argv[1:], os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_WAIT_POLICY"])
Path({folder!r}).mkdir()
Path({folder!r}, "table.md").write_text("done")
sys.exit({status})
"""


@pytest.mark.parametrize("status", [0, 2])
def test_a_job_is_a_process_with_its_options_its_devices_its_log_and_its_record(status, tmp_path, monkeypatch):
    folder, job_options = tmp_path / "made", {"depth": 10, "model": ["a"]}
    (tmp_path / "evaluate.py").write_text(ECHO.format(folder=str(folder), status=status), encoding="utf-8")
    monkeypatch.setattr("m3se.run_scripts.reproduction.run.SCRIPTS", tmp_path)
    jobs = [Job("rerank-a", "evaluate.py", job_options, folder)]
    assert run_all(lambda: jobs, tmp_path / "out", gpus=2, processes=2) == ([] if status == 0 else ["rerank-a"])
    recipe = tmp_path / "out" / "recipes" / "rerank-a.yaml"
    assert yaml.safe_load(recipe.read_text(encoding="utf-8")) == job_options
    log = (tmp_path / "out" / "logs" / "rerank-a.log").read_text(encoding="utf-8")
    assert log.strip() == f"['--recipe', '{recipe}'] 0,1 passive"
    assert timed(tmp_path / "out").keys() == ({"rerank-a"} if status == 0 else set())


SLEEP = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.linux
@pytest.mark.parametrize("platform, number", [("linux", signal.SIGINT), ("win32", signal.SIGTERM)])
def test_a_job_is_interrupted_where_the_system_can(platform, number, tmp_path, monkeypatch):
    (tmp_path / "evaluate.py").write_text(SLEEP, encoding="utf-8")
    monkeypatch.setattr("m3se.run_scripts.reproduction.run.SCRIPTS", tmp_path)
    running = Running(Job("rerank-a", "evaluate.py", {"depth": 10}, tmp_path / "made"), tmp_path / "out", [], 1)
    while "ready" not in running.log.read_text(encoding="utf-8"):
        assert running.process.poll() is None
    monkeypatch.setattr(sys, "platform", platform)
    running.stop()
    assert running.process.returncode == -number
