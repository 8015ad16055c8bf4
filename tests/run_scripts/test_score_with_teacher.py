"""The script as a user runs it: on a collection, on lists, with several teachers."""

import json

import numpy as np
import pytest

from m3se.run_scripts import score_with_teacher
from m3se.run_scripts.cli.app import run
from m3se.trainers.data import BM25Index, RankingLists, read_data
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds.teachers import TEXT, save_classifier, save_cross_encoder, tiny_lists


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_cross_encoder(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Run the script in this process -> (exit status, stdout, stderr)."""

    def script(*flags):
        monkeypatch.setattr(
            "sys.argv", ["score_with_teacher.py", *map(str, flags), "--cache_dir", str(tmp_path / "c")]
        )
        capsys.readouterr()
        status = 0
        try:
            run(score_with_teacher.make_parser, score_with_teacher.main)
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()

    return script


@pytest.fixture
def beir(tmp_path):
    """Twelve documents and four queries, the first of which has two positives."""
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    words = TEXT.split()
    corpus = [{"_id": f"d{n}", "title": "", "text": f"giraffe {words[n]} {words[n + 1]}"} for n in range(12)]
    queries = [{"_id": f"q{n}", "text": f"giraffe {words[n]}"} for n in range(4)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judgments = ["query-id\tcorpus-id\tscore", "q0\td0\t1", "q0\td1\t1", "q1\td1\t1", "q2\td2\t1", "q3\td3\t1"]
    (folder / "qrels" / "train.tsv").write_text("\n".join(judgments) + "\n", encoding="utf-8")
    return folder


def calibration_of(folder):
    return json.loads((folder / "calibration.json").read_text(encoding="utf-8"))


def test_a_collection_becomes_scored_lists_with_positives_first(script, beir, teacher, tmp_path):
    flags = ("--data", beir, "--documents_per_query", 5, "--depth", 10, "--dtype", "float32")
    status, report, _ = script("--teacher", teacher, *flags, "--output", tmp_path / "out")
    assert status == 0
    lists = RankingLists.load(tmp_path / "out")
    rows = {row["query_id"]: row for row in lists.rows}
    assert {query: row["labels"] for query, row in rows.items()} == {
        "q0": [1, 1, 0, 0, 0],
        **dict.fromkeys(("q1", "q2", "q3"), [1, 0, 0, 0, 0]),
    }
    scorer = PairScorer.from_pretrained(teacher, dtype="float32")
    for row in rows.values():
        expected = scorer.score([row["query"]] * 5, lists.documents.texts(row["document_ids"]))
        np.testing.assert_allclose(row["teacher_scores"], expected, atol=1e-5)
    calibration = calibration_of(tmp_path / "out")
    assert (calibration["queries"], calibration["pairs"]) == (4, 20)
    assert "4 queries, 20 pairs, 5.0 documents per query" in report
    assert f"suggested temperature {calibration['suggested']['temperature']:.3g}" in report


def test_lists_are_scored_by_several_teachers_and_what_is_known_is_reused(script, teacher, tmp_path, caplog):
    caplog.set_level("INFO")
    tiny_lists().save(tmp_path / "lists")
    other = save_classifier(tmp_path / "other", seed=3)
    assert script("--teacher", teacher, "--data", tmp_path / "lists", "--output", tmp_path / "one")[0] == 0
    assert "teacher tiny: 24 pairs scored, 0 reused" in caplog.text
    caplog.clear()
    assert script("--teacher", teacher, other, "--data", tmp_path / "one", "--output", tmp_path / "two")[0] == 0
    assert "teacher tiny: 0 pairs scored, 24 reused" in caplog.text
    assert "teacher other: 24 pairs scored, 0 reused" in caplog.text
    one, two = RankingLists.load(tmp_path / "one").rows, RankingLists.load(tmp_path / "two").rows
    assert two["teacher_scores_0"][:] == one["teacher_scores"][:]
    both = np.concatenate(two["teacher_scores_0"][:]), np.concatenate(two["teacher_scores_1"][:])
    np.testing.assert_allclose(np.concatenate(two["teacher_scores"][:]), np.mean(both, axis=0), rtol=1e-6)


def test_scores_travel_as_the_table_of_hofstaetter_and_back(script, beir, teacher, tmp_path):
    flags = ("--data", beir, "--documents_per_query", 5, "--depth", 10, "--dtype", "float32")
    table = tmp_path / "scores.tsv"
    assert script("--teacher", teacher, *flags, "--output", tmp_path / "out", "--export_tsv", table)[0] == 0
    scores = {
        (row["query_id"], document): score
        for row in RankingLists.load(tmp_path / "out").rows
        for document, score in zip(row["document_ids"], row["teacher_scores"], strict=True)
    }
    lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 * 3 + 3 * 4
    for high, low, query, positive, negative in lines:
        assert (float(high), float(low)) == (scores[query, positive], scores[query, negative])
    back = ("--candidates", table, "--output", tmp_path / "back")
    assert script("--data", beir, *back, "--documents_per_query", 5)[0] == 0
    assert calibration_of(tmp_path / "back")["spread"] == pytest.approx(calibration_of(tmp_path / "out")["spread"])
    for row in RankingLists.load(tmp_path / "back").rows:
        assert row["teacher_scores"] == [scores[row["query_id"], document] for document in row["document_ids"]]


def test_lists_of_a_run_file_are_scored(script, beir, teacher, tmp_path):
    run = "".join(f"q{query} Q0 d{rank} {rank} {9 - rank} bm25\n" for query in range(4) for rank in range(8))
    (tmp_path / "bm25.trec").write_text(run, encoding="utf-8")
    flags = ("--data", beir, "--candidates", tmp_path / "bm25.trec", "--documents_per_query", 5, "--depth", 7)
    assert script("--teacher", teacher, *flags, "--negatives", "top", "--output", tmp_path / "out")[0] == 0
    rows = {row["query_id"]: row["document_ids"] for row in RankingLists.load(tmp_path / "out").rows}
    assert rows["q3"] == ["d3", "d0", "d1", "d2", "d4"]


def test_the_settings_of_bm25_are_those_asked_for(script, beir, teacher, tmp_path):
    flags = ("--teacher", teacher, "--data", beir, "--documents_per_query", 5, "--output", tmp_path / "out")
    for some in ((), ("--bm25_k1", 1.2), ("--bm25_b", 0.75), ("--bm25_stemmer", "none")):
        assert script(*flags, *some)[0] == 0
    indexes = (tmp_path / "c").glob("bm25-*/params.index.json")
    settings = [json.loads(index.read_text(encoding="utf-8")) for index in indexes]
    assert sorted((one["k1"], one["b"]) for one in settings) == [(0.9, 0.4), (0.9, 0.4), (0.9, 0.75), (1.2, 0.4)]
    status, _, errors = script(*flags, "--bm25_stemmer", "klingon")
    assert status == 2 and "unknown stemmer 'klingon'" in errors


def test_no_teacher_needs_data_with_scores(script, beir, tmp_path):
    for flags in ((), ("--data", beir)):
        status, _, errors = script(*flags, "--output", tmp_path / "out")
        assert status == 2 and "teacher" in errors
    assert not (tmp_path / "out").exists()


def test_a_table_that_cannot_be_written_is_refused_before_any_work(script, teacher, tmp_path):
    flags = ("--output", tmp_path / "out", "--export_tsv", tmp_path / "nowhere" / "scores.tsv")
    status, _, errors = script("--teacher", teacher, *flags)
    assert status == 2
    assert f"--export_tsv {tmp_path}/nowhere/scores.tsv: its folder does not exist" in errors
    assert not (tmp_path / "c").exists()


def test_fewer_queries_are_a_part_of_more(script, teacher, tmp_path):
    tiny_lists().save(tmp_path / "lists")
    kept = []
    for count in (2, 4):
        flags = ("--data", tmp_path / "lists", "--max_queries", count, "--output", tmp_path / f"out{count}")
        assert script("--teacher", teacher, *flags)[0] == 0
        kept.append(set(RankingLists.load(tmp_path / f"out{count}").rows["query_id"][:]))
    assert (len(kept[0]), len(kept[1])) == (2, 4)
    assert kept[0] < kept[1]


def test_queries_that_are_left_out_and_those_that_are_asked_for_share_none(script, teacher, tmp_path):
    tiny_lists().save(tmp_path / "lists")
    every = set(tiny_lists().rows["query_id"][:])
    flags = ("--teacher", teacher, "--data", tmp_path / "lists", "--output")
    assert script(*flags, tmp_path / "first", "--max_queries", 2)[0] == 0
    assert script(*flags, tmp_path / "rest", "--skip_queries", 2)[0] == 0
    assert script(*flags, tmp_path / "next", "--skip_queries", 2, "--max_queries", 1)[0] == 0
    first, rest, following = (
        set(RankingLists.load(tmp_path / name).rows["query_id"][:]) for name in ("first", "rest", "next")
    )
    assert (first & rest, first | rest) == (set(), every)
    assert len(following) == 1 and following < rest
    for wrong in (-1, len(every)):
        status, _, errors = script(*flags, tmp_path / "none", "--skip_queries", wrong)
        assert status == 2 and f"fewer than the {len(every)} queries there are, got {wrong}" in errors


def test_a_finished_output_can_be_written_again(script, teacher, tmp_path):
    tiny_lists().save(tmp_path / "lists")
    flags = ("--teacher", teacher, "--data", tmp_path / "lists", "--output", tmp_path / "out")
    assert [script(*flags)[0], script(*flags)[0]] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "lists", "out"]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "out").write_text("precious", encoding="utf-8"), "not overwritten"),
        (lambda folder: (folder / "out" / "photos").mkdir(parents=True), "not overwritten"),
    ],
)
def test_an_output_that_holds_something_else_is_refused_before_any_work(script, teacher, tmp_path, spoil, message):
    spoil(tmp_path)
    status, _, errors = script("--teacher", teacher, "--data", "pydocs", "--output", tmp_path / "out")
    assert status == 2
    assert message in errors and "Traceback" not in errors
    assert not (tmp_path / "c").exists()


def test_an_output_that_cannot_be_written_is_refused_before_any_work(script, teacher, tmp_path):
    (tmp_path / "file").touch()
    status, _, errors = script("--teacher", teacher, "--output", tmp_path / "file" / "out")
    assert status == 2
    assert f"--output {tmp_path}/file/out: cannot be written" in errors
    assert not (tmp_path / "c").exists()


def test_a_constant_teacher_is_refused_and_leaves_no_output(script, tmp_path):
    folder = save_cross_encoder(tmp_path / "constant")
    weights = PairScorer.from_pretrained(folder).classifier
    weights.classifier.weight.data.zero_()
    weights.save_pretrained(tmp_path / "constant-classifier")
    PairScorer.from_pretrained(folder).encoder.tokenizer.save_pretrained(tmp_path / "constant-classifier")
    tiny_lists().save(tmp_path / "lists")
    flags = ("--data", tmp_path / "lists", "--output", tmp_path / "out")
    status, _, errors = script("--teacher", tmp_path / "constant-classifier", *flags)
    assert status == 2
    assert "makes the same of two different texts" in errors
    assert not (tmp_path / "out").exists()


def test_bm25_is_a_teacher_and_averages_with_a_model(script, beir, teacher, tmp_path):
    flags = ("--data", beir, "--documents_per_query", 5, "--depth", 10, "--dtype", "float32", "--bm25_k1", 1.5)
    assert script("--teacher", "bm25", *flags, "--output", tmp_path / "alone")[0] == 0
    alone = RankingLists.load(tmp_path / "alone")
    index = BM25Index.build(read_data(str(beir), "train", tmp_path / "c").documents, k1=1.5)
    for row in alone.rows:
        expected = dict(zip(*(found[0] for found in index.search([row["query"]], 12)), strict=True))
        scored = dict(zip(row["document_ids"], row["teacher_scores"], strict=True))
        assert scored == pytest.approx({document: expected.get(document, 0.0) for document in scored})
    assert script("--teacher", teacher, "bm25", *flags, "--output", tmp_path / "both")[0] == 0
    both = RankingLists.load(tmp_path / "both")
    assert both.rows["teacher_scores_1"][:] == alone.rows["teacher_scores"][:]
    assert "standardised" in both.report["teacher_combination"]
    assert both.report["teachers"][1]["name"] == "bm25"
    for row in both.rows:
        columns = np.array([row["teacher_scores_0"], row["teacher_scores_1"]], dtype=np.float64)
        deviations = columns.std(axis=1, keepdims=True)
        expected = ((columns - columns.mean(axis=1, keepdims=True)) / np.where(deviations, deviations, 1)).mean(axis=0)
        np.testing.assert_allclose(row["teacher_scores"], expected, atol=1e-5)


def test_bm25_given_twice_is_refused(script, beir, tmp_path):
    status, _, said = script("--teacher", "bm25", "bm25", "--data", beir, "--output", tmp_path / "out")
    assert status != 0
    assert "bm25 is given twice" in f"{status} {said}"
