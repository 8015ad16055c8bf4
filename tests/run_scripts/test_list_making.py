"""The lists that score_with_teacher.py makes of queries with and without judgments, as a user asks for them."""

import json

import pytest

from m3se.run_scripts import score_with_teacher
from m3se.run_scripts.cli.app import parse
from m3se.trainers.data import RankingLists
from tests.worlds import tiny
from tests.worlds.small_world import write_collection


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A collection whose queries are searches of its documents, an untrained teacher and student, and a cache."""
    root = tmp_path_factory.mktemp("world")
    write_collection(root / "words")
    tiny.save_classifier(root / "teacher")
    tiny.dual_encoder().save_pretrained(root / "student")
    tiny.tokenizer().save_pretrained(root / "student")
    with open(root / "words" / "queries.jsonl", "a", encoding="utf-8") as file:
        for number, text in enumerate(("red river stone", "bird horse", "light night glass")):
            file.write(json.dumps({"_id": f"log{number}", "text": text}) + "\n")
    return root


@pytest.fixture
def scored(world, tmp_path):
    """Run the script -> the lists that it writes."""

    def scored(*flags, name="out"):
        common = ["--teacher", world / "teacher", "--data", world / "words", "--dtype", "float32"]
        common += ["--documents_per_query", 4, "--depth", 12, "--cache_dir", world / "cache"]
        argv = [*common, "--output", tmp_path / name, *flags]
        score_with_teacher.main(*parse(score_with_teacher.make_parser(), [*map(str, argv)]))
        return RankingLists.load(tmp_path / name)

    return scored


def test_labelled_and_unlabelled_queries_are_scored_together(scored):
    labelled, mixed = scored(), scored("--unlabelled", "true", name="mixed")
    queries = mixed.rows["query_id"][:]
    assert queries[:12] == labelled.rows["query_id"][:] and queries[12:] == ["log0", "log1", "log2"]
    assert mixed.rows["document_ids"][:12] == labelled.rows["document_ids"][:]
    assert mixed.rows["labels"][12:] == [[0, 0, 0, 0]] * 3
    assert mixed.report["lists"]["lists_without_positive"] == 3
    assert not any(query.startswith(("dev", "test")) for query in queries)


def test_the_teachers_best_document_is_a_positive_where_that_is_allowed(scored, tmp_path):
    plain = scored("--unlabelled")
    pseudo = scored("--unlabelled", "--pseudo_positives", "true", name="pseudo")
    assert pseudo.rows["document_ids"][:] == plain.rows["document_ids"][:]
    assert pseudo.rows["labels"][:12] == plain.rows["labels"][:12]
    for row in pseudo.rows.select(range(12, 15)):
        best = max(row["teacher_scores"])
        assert row["labels"] == [float(score == best) for score in row["teacher_scores"]]
    assert pseudo.report["lists"]["pseudo_positives"] == 3
    calibrations = [(tmp_path / name / "calibration.json").read_text() for name in ("out", "pseudo")]
    assert calibrations[0] == calibrations[1]  # the teacher is not compared with itself


def test_a_log_of_searches_needs_no_judgments_and_no_option(scored, tmp_path):
    write_collection(tmp_path / "log")
    for file in (tmp_path / "log" / "qrels").iterdir():
        file.unlink()
    lists = scored("--data", tmp_path / "log")
    lines = (tmp_path / "log" / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {json.loads(line)["text"] for line in lines}
    assert sorted(lists.rows["query"]) == sorted(texts) and set(map(max, lists.rows["labels"])) == {0.0}
