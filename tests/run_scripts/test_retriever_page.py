"""report.html: the examples that it shows, and texts of the data that look like markup."""

import base64
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from m3se.hub_cards import plots
from m3se.run_scripts.retriever import measure, page
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.run_scripts.retriever.trials import TRIALS
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.data.schema import SCORED_ROW_FEATURES
from m3se.trainers.evaluation.run_metrics import evaluate_run
from m3se.trainers.storage.arrow import write_rows


STUDENT = TRIALS[0].title
DOCUMENTS = {"a": "alpha <b>bold</b>", "b": "beta", "c": "gamma " * 100}
QRELS = {"up": {"a": 1.0}, "down": {"b": 1.0}, "same": {"c": 2.0}}
START_RUN = {"up": {"b": 3.0, "a": 2.0, "c": 1.0}, "down": {"b": 3.0, "a": 1.0}, "same": {"c": 1.0}}
STUDENT_RUN = {"up": {"a": 3.0, "b": 2.0, "c": 1.0}, "down": {"a": 3.0, "b": 1.0, "c": 4.0}, "same": {"c": 1.0}}


@pytest.fixture
def judged(tmp_path):
    table = DocumentTable.from_texts(list(DOCUMENTS), list(DOCUMENTS.values()))
    rows = []
    for query in QRELS:
        row = {"query_id": query, "query": f"<script>{query}</script>", "document_ids": list(DOCUMENTS)}
        rows.append(row | {"labels": [0.0] * 3, "teacher_scores": [0.0] * 3})
    runs = {"start": START_RUN, STUDENT: STUDENT_RUN, "teacher": START_RUN}
    evaluations = {name: evaluate_run(run, QRELS, None, measure.MEASURES) for name, run in runs.items()}
    lists = RankingLists(write_rows(rows, SCORED_ROW_FEATURES), table)
    tasks = ("re-ranking", "search")
    by_task = dict.fromkeys(tasks, runs), dict.fromkeys(tasks, evaluations)
    return page.Judged([TRIALS[0]], TRIALS[0], lists, QRELS, *by_task)


@pytest.fixture
def body(judged, tmp_path):
    arguments = RetrieverArguments(data="<i>mine</i>", output=str(tmp_path))
    counts = {"queries": 3, "judged": 2}
    texts = {"documents": 3, "train": counts, "held_out_are_synthetic": False, "synthetic": 1}
    (tmp_path / "queries.json").write_text(json.dumps(texts))
    history = [{"step": 4, "eval_nDCG@10": 0.5, "train_nDCG@10": 0.75}, {"step": 4, "loss": 1.0}]
    (tmp_path / "students" / "mixed").mkdir(parents=True)
    (tmp_path / "students" / "mixed" / "training.json").write_text(json.dumps({"log_history": history}))
    page.write_page(arguments, judged, "BETTER <or> not")
    return ElementTree.fromstring((tmp_path / "report.html").read_text(encoding="utf-8")).find("body")


def test_queries_that_gained_and_lost_are_shown_with_their_best_documents(body):
    tables = body.findall("div/table")[1:]
    # alpha moves from rank 2 to 1: 1 - 1 / log2(3); beta from rank 1 to 3: 1 / log2(4) - 1
    assert [table.find("caption").text for table in tables] == [
        "<script>up</script> (+0.37)",
        "<script>down</script> (-0.50)",
    ]
    up, down = ([[cell.text for cell in row.findall("td")] for row in table.findall("tr")[1:]] for table in tables)
    cut = "gamma " * 33 + "g…"
    assert up == [["beta", "✔ alpha <b>bold</b>"], ["✔ alpha <b>bold</b>", "beta"], [cut, cut]]
    assert down == [["✔ beta", cut], ["alpha <b>bold</b>", "alpha <b>bold</b>"]]  # the start ranks two documents


def test_the_gain_is_the_students_mean_minus_the_starts(judged):
    assert judged.gain.mean == pytest.approx((1 - 1 / np.log2(3) + 1 / np.log2(4) - 1) / 3)
    assert judged.gain.mean < 0 and not judged.gain.is_better


def test_texts_of_the_data_are_no_markup(body):
    assert [element.tag for element in body.iter() if element.tag in ("script", "b", "i", "or")] == []
    assert body.find("p").text == "BETTER <or> not"
    facts = [entry.text for entry in body.findall("dl/dd")]
    assert facts[0] == "<i>mine</i>: 3 documents"
    assert facts[1] == "3, of which 2 are judged; 1 queries of the data were made of its documents"


def test_pictures_are_part_of_the_page_and_have_a_description(body):
    images = body.findall("p/img")
    assert len(images) == 3
    for image in images:
        kind, data = image.get("src").split(",")
        assert kind == "data:image/svg+xml;base64" and ElementTree.fromstring(base64.b64decode(data)).tag.endswith(
            "svg"
        )
        assert image.get("alt")


def test_curves_and_scores_are_those_of_the_run(judged, tmp_path, body):
    arguments = RetrieverArguments(data="mine", output=str(tmp_path))
    assert page.read_curves(arguments, judged) == {STUDENT: {"step": [4], "train": [0.75], "dev": [0.5]}}
    relevant, others = page.scores_by_label(judged)[STUDENT]
    assert sorted(relevant) == [1.0, 1.0, 3.0] and sorted(others) == [1.0, 2.0, 3.0, 4.0]


def test_the_same_picture_is_the_same_text():
    first, second = (page.draw(plots.comparison({"a": (0.5, (0.4, 0.6))}, {}, "nDCG", "", "title")) for _ in range(2))
    assert first == second
