import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.diagnose import main, make_parser
from m3se.run_scripts.diagnosis import sections as sections
from m3se.run_scripts.diagnosis.report import Report
from m3se.trainers.data import read_data
from m3se.trainers.diagnostics.quantities import separation
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.loading import load_scorer
from tests.worlds import words as tiny


QUERIES = {"dev": 3, "train": 2}
HISTORY = [
    {"step": 5, "loss": 1.0},
    {"step": 10, "eval_MRR@10": 0.3, "train_MRR@10": 0.4},
    {"step": 20, "eval_MRR@10": 0.35, "train_MRR@10": 0.6},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    found = {
        "CA": tiny.save_cross_encoder(folder / "teacher"),
        "DE": tiny.save_dual_encoder(folder / "student"),
        "DIST": tiny.save_dual_encoder(folder / "distilled", seed=12),
    }
    record = {"log_history": HISTORY, "evaluated_on": QUERIES}
    (folder / "student" / "training.json").write_text(json.dumps(record))
    return found


@pytest.fixture(scope="module")
def beir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "words"
    tiny.write_beir(folder, "dev")
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    queries = [{**query, "text": f"{query['text']} list graph"} for query in queries]  # finds other documents too
    (folder / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    (folder / "qrels" / "train.tsv").write_text((folder / "qrels" / "dev.tsv").read_text())
    return str(folder)


def diagnose(models, *argv):
    pairs = [f"{name}={folder}" for name, folder in models.items()]
    main(*parse(make_parser(), ["--model", *pairs, *map(str, argv)]))


@pytest.fixture(scope="module")
def report(models, beir, tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    student = models["DE"]
    options = ["--stage", f"DE@0={student}", f"CA@0={models['CA']}", "--size", f"DE={models['DIST']}"]
    options += ["--output", output / "out", "--cache_dir", output / "cache", "--dtype", "float32", "--depth", 5]
    diagnose(models, "--data", beir, *options)
    return output / "out"


def test_every_diagnostic_has_a_picture_or_table_with_its_data_beside_it(report):
    page = (report / "diagnostics.md").read_text()
    pictures = re.findall(r"\((\w+)\.png\)", page)
    expected = ["learning_curves", "embedding_sizes"]
    expected += [f"distributions_{split}_{kind}" for split in ("dev", "train") for kind in ("centred", "raw")]
    expected += ["stages", "margins", "calibration", "capacity", "proposition_3"]
    assert pictures == expected
    for name in [*expected, "disagreements", "side_by_side", "kendall", "singular_values"]:
        assert pq.read_table(report / f"{name}.parquet").num_rows > 0
    assert all((report / f"{name}.png").stat().st_size > 1000 for name in expected)
    assert "## Largest disagreements" in page and "## DE and DIST side by side" in page


def test_the_data_are_the_models_scores_and_the_summary_is_made_of_them(report, models, beir):
    table = pq.read_table(report / "distributions_dev_raw.parquet").to_pydict()
    collection = read_data(beir, "dev")
    for name, folder in models.items():
        scorer = load_scorer(folder, "float32")
        for query, document, score in zip(
            table["query_id"], table["document_id"], table[f"score {name}"], strict=True
        ):
            texts = collection.documents.texts([document])
            assert scorer.score_matrix([collection.queries[query]], texts)[0, 0] == pytest.approx(score, abs=1e-4)
    arrays = {key: pq.read_table(report / "distributions_dev_raw.parquet")[key].to_numpy() for key in table}
    rows = [list(dict.fromkeys(table["query_id"])).index(query) for query in table["query_id"]]
    expected = separation(arrays["score DE"], arrays["label"], np.array(rows))
    summary = json.loads((report / "summary.json").read_text())
    assert summary["separation_dev"]["DE"]["auc"] == pytest.approx(expected.auc)
    assert summary["generalisation_gap"] == {"DE": pytest.approx(0.25)}
    assert summary["capacity"]["queries"] == 3
    curve = pq.read_table(report / "learning_curves.parquet").to_pydict()
    assert curve == {"model": ["DE", "DE"], "step": [10, 20], "train": [0.4, 0.6], "dev": [0.3, 0.35]}
    assert pq.read_table(report / "embedding_sizes.parquet")["model"].to_pylist() == ["CA", "DE", "DE", "DIST"]
    stages = pq.read_table(report / "stages.parquet").to_pydict()
    for name in ("DE", "CA"):  # the stage is the finished model again
        assert stages[f"score {name}@0"] == stages[f"score {name}"] == table[f"score {name}"]
    taus = pq.read_table(report / "kendall.parquet").to_pydict()
    assert set(taus["model"]) == {"DE", "DIST"}
    of_student = [tau for model, tau in zip(taus["model"], taus["tau"], strict=True) if model == "DE"]
    assert summary["agreement"]["DE"]["mean_tau"] == pytest.approx(np.mean(of_student))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage", "DE=x"], "expected NAME@STEP=FOLDER"),
        (["--stage", "OTHER@5=x"], "with a NAME of CA, DE, DIST, got 'OTHER@5'"),
        (["--size", "DE"], "expected NAME=FOLDER, got 'DE'"),
        (["--depth", "0"], "--depth: expected at least 1"),
        (["--size", "DE=./nowhere"], "nowhere: no such model folder"),
        (["--pooling", "cls"], "each of these models has its own"),
        (["--split", "other"], "no split 'other'"),
    ],
)
def test_mistakes_are_named_before_anything_is_scored(models, beir, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        diagnose(models, "--data", beir, "--output", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_candidates_must_hold_relevant_and_other_documents(models, tmp_path):
    data = tiny.write_beir(tmp_path / "words", "dev")  # each query finds what is relevant and nothing else
    options = ["--train_split", "none", "--output", tmp_path / "out", "--cache_dir", tmp_path / "cache"]
    with pytest.raises(InputError, match="dev: no query has both a relevant and another document"):
        diagnose(models, "--data", data, *options)


def test_a_title_names_the_split_that_was_measured(tmp_path):
    report = Report(tmp_path, "words", ["CA", "DE"], {"dev": "test", "train": "train"})
    assert report.title("Scores", "dev", 1200) == "Scores · words test, 1,200 queries · CA, DE"


def test_a_teacher_alone_is_not_enough(models, beir, tmp_path):
    with pytest.raises(InputError, match="a teacher and at least one student"):
        diagnose({"CA": models["CA"]}, "--data", beir, "--output", tmp_path / "out")


def test_a_picture_of_both_splits_calls_them_what_the_data_does(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Report, "picture", lambda self, name, heading, text, figure, columns: drawn.append(figure))
    report = Report(tmp_path, "words", ["CA", "DE"], {"train": "seen", "dev": "test"})
    sections.embedding_sizes(report, {"DE": {"size": [8], "train": [0.5], "dev": [0.25]}}, {"train": 7, "dev": 5})
    assert "words seen, 7 queries, and test, 5 queries" in drawn[0].get_suptitle()
