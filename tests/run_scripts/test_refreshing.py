"""distill.py with negatives that are drawn anew: the run's folder, its card, and what is refused."""

import json
import shutil

import pytest
from datasets import Dataset

from m3se import InputError
from m3se.run_scripts.publishing.build import build_folder
from m3se.trainers.data import RankingLists
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.teacher.loading import load_teacher
from tests.run_scripts.distilling import distilled, write_world
from tests.run_scripts.test_embedding_matching import large_model
from tests.worlds import tiny


OPTIONS = {"refresh_steps": 2, "refresh_depth": 8, "max_steps": 5, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = write_world(tmp_path_factory.mktemp("refreshing"))
    tiny.save_classifier(root / "teacher", seed=3)
    return root


@pytest.fixture(scope="module")
def student(world):
    options = OPTIONS | {"refresh_teacher": world / "teacher", "cache_dir": world / "cache"}
    return distilled(world, world / "student", **options)


def test_a_finished_run_keeps_the_lists_that_it_ended_on(world, student, tmp_path):
    assert [path.name for path in student.glob("negatives-*")] == ["negatives-4"]
    assert not (student / ".student_encoding").exists()
    lists, teacher = RankingLists.load(world / "lists"), load_teacher(str(world / "teacher"))
    row = Dataset.from_file(str(student / "negatives-4" / "rows.arrow"))[0]
    texts = lists.documents.texts(row["document_ids"])
    expected = teacher.score([row["query"]] * len(texts), texts).tolist()
    assert row["teacher_scores"] == pytest.approx(expected, abs=1e-4)
    report = json.loads((student / "negatives-4" / "report.json").read_text(encoding="utf-8"))
    assert (report["step"], report["depth"]) == (4, 8) and 0 < report["new_negatives"] <= 1
    assert report["distinct_negatives"] >= 1 and report["distinct_before"] >= 1
    card = (build_folder(student, tmp_path / "published") / "README.md").read_text(encoding="utf-8")
    assert "Every 2 steps its negatives were drawn anew from its own best 8 documents" in card


def test_a_run_depends_on_the_teacher_of_new_lists(world, student, tmp_path):
    options = OPTIONS | {"cache_dir": world / "cache"}
    before = (student / "model.safetensors").stat().st_mtime_ns
    distilled(world, student, **options, refresh_teacher=world / "teacher")  # reused
    assert (student / "model.safetensors").stat().st_mtime_ns == before
    shutil.move(world / "teacher", tmp_path / "teacher")
    try:
        tiny.save_classifier(world / "teacher", seed=4)
        with pytest.raises(InputError, match="student holds a run with another refresh_teachers"):
            distilled(world, student, **options, refresh_teacher=world / "teacher")
    finally:
        shutil.rmtree(world / "teacher")
        shutil.move(tmp_path / "teacher", world / "teacher")


def test_documents_of_another_model_are_searched_where_they_are(world, tmp_path):
    """The negatives are near the query encoder's vectors among the vectors that never change."""
    pytest.importorskip("sentence_transformers")
    large = large_model(world, tmp_path / "large")
    options = {"document_encoder": large, "loss": "softmax_ce", "cache_dir": tmp_path / "cache", "save_steps": 2}
    output = distilled(world, tmp_path / "student", **OPTIONS | options | {"max_steps": 3})
    lists, row = RankingLists.load(world / "lists"), Dataset.from_file(str(output / "negatives-2" / "rows.arrow"))[3]
    query = load_embedder(output / "checkpoint-2", "float32").encode([row["query"]], "query")[0]
    documents = load_embedder(large, "float32").encode(lists.documents.texts(list(lists.documents.ids)), "document")
    best = {lists.documents.ids[place] for place in (-documents @ query).argsort()[:8].tolist()}
    negatives = [name for name, label in zip(row["document_ids"], row["labels"], strict=True) if label == 0]
    assert negatives and set(negatives) <= best


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refresh_teacher": "t"}, "refresh_teacher: has no effect without refresh_steps"),
        ({"refresh_steps": -1}, "refresh_steps: expected at least 0, got -1"),
        ({"refresh_steps": 1, "refresh_depth": 0}, "refresh_depth: expected at least 1, got 0"),
        ({"refresh_steps": 1, "architecture": "colbert"}, "refresh_steps: expected a dual_encoder, .* got colbert"),
        ({"refresh_steps": 1}, "refresh_teacher: loss softmax_distillation needs a teacher's scores"),
        ({"refresh_steps": 1, "loss": "focal", "refresh_teacher": "t"}, "refresh_teacher: has no effect, focal reads"),
        (
            {"refresh_steps": 1, "loss": "focal", "refresh_depth": 3},
            "refresh_depth: expected at least 4, .* got 3 of",
        ),
        (
            {"refresh_steps": 1, "loss": "focal", "data": "pydocs"},
            "refresh_steps: pydocs is no folder of",
        ),
        ({"refresh_steps": 1, "refresh_teacher": "/nowhere/teacher"}, "/nowhere/teacher"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_run_is_begun(options, message, world, tmp_path):
    with pytest.raises(InputError, match=message):
        distilled(world, tmp_path / "student", **options)
    assert not (tmp_path / "student").exists() or not any((tmp_path / "student").glob("*.json"))


def test_no_steps_between_draws_are_none(world, tmp_path):
    output = distilled(world, tmp_path / "student", refresh_steps=0, refresh_teacher="unread", max_steps=1)
    assert not list(output.glob("negatives-*"))


def test_a_file_of_scores_cannot_score_new_documents(world, tmp_path):
    (tmp_path / "run.trec").write_text("q0 Q0 d0 1 1.0 run\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"refresh_teacher: .*run.trec is a file of scores"):
        distilled(world, tmp_path / "student", refresh_steps=1, refresh_teacher=tmp_path / "run.trec")
