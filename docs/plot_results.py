"""Pictures of the results, drawn from the reports below docs/results.

    python docs/plot_results.py

docs/retrievers.png shows what make_retriever.py made of an encoder, docs/results/overview.png the studies on Python
documentation and on whole paragraphs, and docs/results/small.png those of the smallest scale. A line is the 95%
bootstrap interval over queries, a point the mean, over seeds where there are several.
"""

import json
import re
from pathlib import Path

import matplotlib


matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


DOCS = Path(__file__).parent
PLAIN, ADDED, COLBERT = "#0072B2", "#D55E00", "#009E73"
MATCHED = COLBERT  # which another picture shows
HELD_OUT, RERANKED = "held_out MRR@10", "rerank MRR@10"
# (label, report of a retriever), from top to bottom; the systems of its table by the beginning of their name.
RETRIEVERS = [
    ("Python documentation", "pydocs"),
    ("the same, all\ntraining queries", "pydocs_all"),
    ("the same, training\nqueries without labels", "pydocs_unlabelled"),
    ("claims and abstracts\nof science", "scifact"),
]
SYSTEMS = [("BM25", "0.5", "s"), ("start", PLAIN, "o"), ("student", ADDED, "D")]
# (label, study, row of its results.json, colour), from top to bottom.
LOSSES = [
    ("labels", "pydocs/table1", "DE one-hot", PLAIN),
    ("M3SE, scale auto", "pydocs/table1", "DE M3SE, scale auto", PLAIN),
    ("softmax CE", "pydocs/table1", "DE softmax CE", PLAIN),
    ("labels of 1,000 queries", "pydocs/unlabelled", "labels of 1,000", ADDED),
    ("softmax CE on the same", "pydocs/unlabelled", "softmax CE, 1,000", ADDED),
    ("and on 5,000 without labels", "pydocs/unlabelled", "softmax CE, 1,000 + 5,000", ADDED),
    ("matched to the whole encoder", "pydocs/matched", "matched", MATCHED),
    ("matched, then labels", "pydocs/matched", "matched, then labels", MATCHED),
    ("matched, then softmax CE", "pydocs/matched", "matched, then softmax CE", MATCHED),
    ("matched, then both", "pydocs/matched", "matched, then both", MATCHED),
    ("matched, then ColBERT", "pydocs/matched", "matched, then ColBERT of softmax CE, without [MASK]", MATCHED),
]
WHOLE = [
    ("the start, not trained", "pydocs/start", "Start", "0.5"),
    ("labels", "pydocs/start", "Labels", PLAIN),
    ("softmax CE", "pydocs/start", "Softmax CE", PLAIN),
    ("softmax CE and labels", "pydocs/start", "Softmax CE and labels", PLAIN),
]
PARAGRAPHS = [
    ("labels", "medium/matched", "labels", PLAIN),
    ("softmax CE", "medium/matched", "softmax CE", PLAIN),
    ("the whole encoder, not trained", "medium/matched", "the whole encoder", "0.5"),
    ("matched to the whole encoder", "medium/matched", "matched", MATCHED),
    ("matched, then labels", "medium/matched", "matched, then labels", MATCHED),
    ("matched, then margin MSE", "medium/matched", "matched, then margin MSE", MATCHED),
    ("matched, then M3SE", "medium/matched", "matched, then M3SE", MATCHED),
    ("matched, then softmax CE", "medium/matched", "matched, then softmax CE", MATCHED),
]
SEARCH = [
    ("labels", "table12", "DE one-hot", PLAIN),
    ("labels + negatives", "table12", "DE one-hot + negatives", ADDED),
    ("M3SE", "table12", "DE M3SE", PLAIN),
    ("M3SE + negatives", "table12", "DE M3SE + negatives", ADDED),
    ("softmax CE", "table12", "DE softmax CE", PLAIN),
    ("softmax CE + negatives", "table12", "DE softmax CE + negatives", ADDED),
]
RERANKING = [
    ("labels", "table1", "DE one-hot", PLAIN),
    ("M3SE", "table1", "DE M3SE", PLAIN),
    ("softmax CE", "table1", "DE softmax CE", PLAIN),
    ("softmax CE, longer lists", "table6", "K = 20, softmax CE", PLAIN),
    ("softmax CE + negatives", "table12", "DE softmax CE + negatives", ADDED),
    ("ColBERT, labels", "table7", "ColBERT one-hot", COLBERT),
    ("ColBERT, M3SE", "table7", "ColBERT M3SE", COLBERT),
    ("ColBERT, softmax CE", "table7", "ColBERT softmax CE", COLBERT),
]


def read_value(study: str, row: str, measure: str) -> dict:
    """Read one value of a study's results.json: its `mean` and `interval_95`."""
    results = json.loads((DOCS / "results" / study / "results.json").read_text(encoding="utf-8"))
    return results["rows"][row]["values"][measure]


def draw_rows(axes: Axes, rows: list[tuple[str, str, str, str]], measure: str) -> None:
    """Draw a point and its interval for each row, the first on top."""
    for height, (_, study, row, colour) in enumerate(reversed(rows)):
        value = read_value(study, row, measure)
        axes.plot(value["interval_95"], [height, height], color=colour, linewidth=2)
        axes.plot(value["mean"], height, "o", color=colour, markersize=7)
        axes.annotate(f"{value['mean']:.3f}", (value["mean"], height), (0, 6), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def draw_reference(axes: Axes, study: str, row: str, name: str, measure: str) -> None:
    """Draw one system of a study as a dotted line across all rows, with its name at the upper end."""
    mean = read_value(study, row, measure)["mean"]
    axes.axvline(mean, color="0.4", linestyle=":")
    top = axes.get_ylim()[1]
    style = {"textcoords": "offset points", "ha": "right", "va": "top", "color": "0.3"}
    axes.annotate(f"{name} {mean:.3f}", (mean, top), (-4, 0), **style)


def read_searches(report: str) -> dict[str, tuple[float, float, float]]:
    """Read nDCG@10 of searching from a retriever's report: system → mean and the ends of its interval."""
    text = (DOCS / "results" / "retrievers" / f"{report}.md").read_text(encoding="utf-8")
    searches = {}
    for name, *values in re.findall(r"^\| ([^|]+) \| search \| ([\d.]+) \[([\d.]+), ([\d.]+)\]", text, re.M):
        searches[name] = tuple(map(float, values))
    return searches


def draw_retrievers(axes: Axes) -> None:
    """Draw BM25, the start and the student that was made of it, a line each, for every collection."""
    for row, (_, report) in enumerate(RETRIEVERS):
        searches = read_searches(report)
        for number, (system, colour, marker) in enumerate(SYSTEMS):
            mean, low, high = next(values for name, values in searches.items() if name.startswith(system))
            height = -row - 0.27 * (number - 1)
            axes.plot([low, high], [height, height], color=colour, linewidth=2)
            axes.plot(mean, height, marker, color=colour, markersize=7, label=system if row == 0 else None)
            axes.annotate(f"{mean:.3f}", (high, height), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks([-row for row in range(len(RETRIEVERS))], [label for label, _ in RETRIEVERS])
    axes.set_xlabel("nDCG@10 of searching the whole collection")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def draw_students(axes: Axes, rows: list[tuple[str, str, str, str]], study: str, measure: str, title: str) -> None:
    """Draw students beside BM25 and the teacher, which both are rows of a study."""
    draw_rows(axes, rows, measure)
    draw_reference(axes, study, "BM25", "BM25", measure)
    draw_reference(axes, study, "CA", "teacher", measure)
    axes.set_title(title)
    axes.set_xlabel("MRR@10 of re-ranking BM25's best 20")


def draw_search(axes: Axes) -> None:
    """Draw how well dual encoders search all paragraphs, with and without added negatives."""
    draw_rows(axes, SEARCH, "retrieval MRR@10")
    draw_reference(axes, "table12", "BM25", "BM25", "retrieval MRR@10")
    axes.set_title("Searching all 31,238 paragraphs")
    axes.set_xlabel("MRR@10")


def save(figure: Figure, path: Path) -> None:
    """Write a figure without the version of the library, so that the same results give the same bytes."""
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main(folder: Path = DOCS) -> None:
    """Write retrievers.png, results/overview.png and results/small.png below `folder`."""
    figure, axes = plt.subplots(figsize=(8, 3.9), layout="constrained")
    draw_retrievers(axes)
    save(figure, folder / "retrievers.png")
    figure, (losses, whole, paragraphs) = plt.subplots(1, 3, figsize=(17, 4.6), layout="constrained")
    whole.sharex(losses)
    draw_students(losses, LOSSES, "pydocs/table1", HELD_OUT, "Three layers, Python documentation")
    draw_students(whole, WHOLE, "pydocs/table1", HELD_OUT, "The whole encoder, Python documentation")
    draw_students(paragraphs, PARAGRAPHS, "medium/matched", RERANKED, "Three layers, Natural Questions")
    save(figure, folder / "results" / "overview.png")
    figure, (reranking, search) = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
    draw_students(reranking, RERANKING, "table12", RERANKED, "Two layers, Natural Questions")
    draw_search(search)
    save(figure, folder / "results" / "small.png")


if __name__ == "__main__":
    main()
