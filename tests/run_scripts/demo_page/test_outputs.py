"""What the page reads of output folders."""

import numpy as np
import pytest

from m3se.run_scripts.demo_page.opening import open_comparison
from m3se.run_scripts.demo_page.outputs import check_output, plain, read_output, read_tables
from m3se.run_scripts.diagnosis import sections
from m3se.run_scripts.diagnosis.report import Report
from m3se.trainers.data import RankingLists
from m3se.trainers.data.schema import SCORED_ROW_FEATURES
from m3se.trainers.diagnostics.scored_lists import scored_lists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.markdown import escaped, table
from m3se.trainers.storage.arrow import write_rows


@pytest.fixture(scope="module")
def opened(world, arguments):
    return open_comparison(arguments("--start", world["start"], "--model", world["student"]))


def test_a_table_is_read_as_it_was_before_it_became_markdown(tmp_path):
    names = ["a | b", "<b>x</b> [link](y)", "1 * 2"]
    rows = [[escaped(name), "**0.5**"] for name in names]
    text = f"First.\n\n{table(['system', 'nDCG@10'], rows)}\n\n{table(['other'], [['z']])}\nLast, &lt;i>.\n"
    (tmp_path / "table.md").write_text(text, encoding="utf-8")
    tables, notes = read_tables(tmp_path / "table.md")
    assert tables[0] == (["system", "nDCG@10"], [[name, "0.5"] for name in names])
    assert tables[1] == (["other"], [["z"]])
    assert notes.splitlines()[0] == "First." and notes.splitlines()[-1] == "Last, <i>."
    assert read_tables(tmp_path / "nowhere.md") == ([], "")


def test_the_folder_of_a_diagnosis_has_titled_pictures_and_named_disagreements(tmp_path, lists, opened):
    draw = np.random.default_rng(0)
    sizes = list(map(len, lists.rows["document_ids"]))
    scores = {name: [draw.normal(size=size).tolist() for size in sizes] for name in ("CA", "DE")}
    scored = scored_lists(lists, scores)
    report = Report(tmp_path, "data", ["CA", "DE"], {"dev": "dev", "train": "train"})
    sections.calibration(report, scored)
    sections.disagreements(report, scored, 3)
    report.write()
    comparison, encodings = opened
    output = read_output(str(tmp_path), comparison.documents, encodings)
    assert [(title, file.name) for title, file in output.pictures] == [("Teacher and student", "calibration.png")]
    assert (output.low, output.high, len(output.pairs)) == ("CA", "DE", 3)
    places = {(row, document) for row, document in zip(scored.rows, scored.document_ids, strict=True)}
    first = output.pairs[0]
    row = list(lists.rows["query"]).index(first.query)
    assert (row, first.document_id) in places and first.document == lists.documents.texts([first.document_id])[0]


def test_the_folder_of_a_retriever_has_the_disagreements_of_teacher_and_student(world, tmp_path, opened):
    comparison, encodings = opened
    rows = [
        {"query_id": "q1", "query": "vector sum", "document_ids": ["d1", "d2"], "labels": [1.0, 0.0]},
        {"query_id": "q2", "query": "read file", "document_ids": ["d3", "d5", "d4"], "labels": [0.0, 0.0, 1.0]},
    ]
    for row, scores in zip(rows, ([3.0, -1.0], [2.0, -2.0, 4.0]), strict=True):
        row["teacher_scores"] = scores
    RankingLists(write_rows(rows, SCORED_ROW_FEATURES), comparison.documents).save(tmp_path / "scored" / "test")
    output = read_output(str(tmp_path), comparison.documents, encodings)
    assert (output.low, output.high) == ("teacher", "student")
    assert {pair.query for pair in output.pairs} == {"vector sum", "read file"}
    teacher = np.array([3.0, -1.0, 2.0, -2.0, 4.0])
    scorer = encodings["student"][0]
    student = np.concatenate(
        [scorer.score(row["query"], comparison.documents.texts(row["document_ids"])) for row in rows]
    )
    gaps = (student - student.mean()) / student.std() - (teacher - teacher.mean()) / teacher.std()
    by_document = dict(zip(["d1", "d2", "d3", "d5", "d4"], gaps, strict=True))
    assert {pair.document_id: pair.gap for pair in output.pairs} == pytest.approx(
        {"d2": by_document["d2"], (best := max("d3", "d5", key=by_document.get)): by_document[best]}, rel=1e-4
    )


def test_lists_of_other_documents_are_refused(tmp_path, lists, opened):
    comparison, encodings = opened
    lists.save(tmp_path / "scored" / "test")
    with pytest.raises(InputError, match="is about other documents than --data"):
        read_output(str(tmp_path), comparison.documents, encodings)


def test_a_folder_that_nothing_wrote_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected an output folder"):
        check_output(str(tmp_path))


def test_markup_that_a_report_makes_harmless_is_shown_as_it_was():
    assert plain(f" {escaped('<img> a_b *c* `d` [e]')} ") == "<img> a_b *c* `d` [e]"
