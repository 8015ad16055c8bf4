"""docs/plot_results.py draws what the studies measured."""

import importlib.util
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from PIL import Image


SCRIPT = Path(__file__).parents[1] / "docs" / "plot_results.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_point_is_the_mean_and_a_line_the_interval_of_its_row(script):
    figure, axes = plt.subplots()
    script.draw_rows(axes, [("below", "table12", "BM25", "b"), ("last", "table12", "CA", "b")], "rerank MRR@10")
    interval, point = axes.get_lines()[:2]  # rows are drawn from below
    value = script.read_value("table12", "CA", "rerank MRR@10")
    assert list(interval.get_xdata()) == value["interval_95"]
    assert list(point.get_xdata()) == [value["mean"]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["last", "below"]
    plt.close(figure)


def test_a_retriever_is_drawn_as_its_report_says(script):
    figure, axes = plt.subplots()
    script.draw_retrievers(axes)
    searches = script.read_searches("scifact")
    row = [report for _, report in script.RETRIEVERS].index("scifact")
    lines = [list(line.get_xdata()) for line in axes.get_lines()][6 * row : 6 * row + 6]
    expected = []
    for system in ("BM25", "start", "student, teacher and labels"):
        mean, low, high = searches[system]
        expected += [[low, high], [mean]]
    assert lines == expected and searches["start"] == (0.645, 0.599, 0.690)
    plt.close(figure)


def test_it_writes_the_pictures_of_the_pages(script, tmp_path):
    (tmp_path / "results").mkdir()
    script.main(tmp_path)
    for name in ("retrievers.png", "results/overview.png", "results/small.png"):
        assert Image.open(tmp_path / name).size == Image.open(script.DOCS / name).size
