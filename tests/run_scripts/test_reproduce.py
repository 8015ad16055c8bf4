import json
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from m3se.run_scripts.reproduction.data import split_collection
from m3se.run_scripts.reproduction.jobs import Job
from m3se.run_scripts.reproduction.results import gaps_closed, mean_evaluation, share
from m3se.run_scripts.reproduction.run import Running, run_all, timed
from m3se.trainers.evaluation.run_metrics import Evaluation
from tests.reliability.forked import Run
from tests.run_scripts.study_world import SELECTION, write_recipes
from tests.worlds.small_world import write_collection, write_encoder
from tests.worlds.studies import fork_jobs


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


MEET = """
import os, sys, time
from pathlib import Path
name = Path(sys.argv[2]).stem
Path({folder!r}, name).mkdir()
while len(os.listdir({folder!r})) < 2 and time.process_time() < 20:
    pass
Path({folder!r}, name, "table.md").write_text(os.environ["OMP_NUM_THREADS"])
"""


@pytest.mark.parametrize("chosen, threads", [(None, "3"), ("5", "5")])
def test_runs_on_the_cpu_share_its_cores_at_the_same_time(chosen, threads, tmp_path, monkeypatch):
    made = tmp_path / "made"
    made.mkdir()
    (tmp_path / "evaluate.py").write_text(MEET.format(folder=str(made)), encoding="utf-8")
    monkeypatch.setattr("m3se.run_scripts.reproduction.run.SCRIPTS", tmp_path)
    monkeypatch.setattr("m3se.run_scripts.reproduction.run.available_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    jobs = [Job(name, "evaluate.py", {}, made / name) for name in ("a", "b")]
    assert run_all(lambda: jobs, tmp_path / "out", gpus=0, processes=1, cpu_runs=2) == []
    assert [(made / name / "table.md").read_text() for name in ("a", "b")] == [threads] * 2
    times = [record["seconds"] for record in timed(tmp_path / "out").values()]
    assert len(times) == 2 and max(times) < 20  # neither waited for the other to end


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
