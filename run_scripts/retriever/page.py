"""The page about a finished run, one file that any browser shows: verdict, table, pictures, and queries as examples.

Nothing of the data is markup here: the template escapes every text, and pictures stand in the page as images.
"""

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from m3se.hub_cards import plots
from m3se.run_scripts.retriever import measure
from m3se.run_scripts.retriever.measure import MEASURE
from m3se.run_scripts.retriever.options import QUERIES, START, RetrieverArguments
from m3se.run_scripts.retriever.trials import Trial
from m3se.trainers.data import RankingLists
from m3se.trainers.data.schema import positives
from m3se.trainers.evaluation.run_metrics import Evaluation, Qrels
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.evaluation.significance import bootstrap_interval
from m3se.trainers.storage.atomic import write_text


PAGE = "report.html"
EXAMPLES = 5  # queries that gained, and as many that lost
RANKS = 3
SHOWN = 200  # characters of a document
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True)
class Judged:
    """All systems on the test queries.

    Attributes:
        trained: the trials, in their order.
        best: the one that was chosen.
        lists: the test queries with teacher scores.
        qrels: their judgments, None where there are none.
        runs: by task and system.
        evaluations: the same runs, measured.
    """

    trained: list[Trial]
    best: Trial
    lists: RankingLists
    qrels: Qrels | None
    runs: dict[str, dict[str, Run]]
    evaluations: dict[str, dict[str, Evaluation]]

    @property
    def is_judged(self) -> bool:
        """Tell whether the queries have judgments; otherwise agreement with the teacher is measured."""
        return self.qrels is not None

    @property
    def task(self) -> str:
        """Return the task that decides."""
        return "search" if self.is_judged else "re-ranking"

    @property
    def gain(self) -> measure.Difference:
        """Return the difference of the chosen student and the start in the task that decides."""
        return measure.difference(*(self.evaluations[self.task][name] for name in (self.best.title, START)))

    @property
    def cells(self) -> list[list[str]]:
        """Return the rows of the table."""
        cells = []
        for task, evaluations in self.evaluations.items():
            cells += measure.rows(evaluations, task, self.is_judged)
        return cells

    def relevant(self, query: str) -> set[str]:
        """Return the relevant documents of a query; none where nothing is judged."""
        return set(positives((self.qrels or {}).get(query, {})))


def write_page(arguments: RetrieverArguments, judged: Judged, line: str) -> None:
    """Write report.html.

    Args:
        arguments: the options.
        judged: the systems.
        line: the verdict in words.
    """
    name = MEASURE if judged.is_judged else measure.AGREEMENT
    pictures = [(f"{name} of every system, with 95% intervals", compare(judged, name))]
    if curves := read_curves(arguments, judged):
        title = f"{MEASURE} of the students on training and dev queries"
        pictures.append((title, plots.learning_curves(curves, MEASURE, title)))
    if judged.is_judged:
        title = "scores of relevant documents and of other candidates"
        pictures.append((title, plots.score_distributions(scores_by_label(judged), title)))
    text = TEMPLATES.get_template("page.html").render(
        title=f"{Path(arguments.data).name}: a retriever",
        line=line,
        is_better=judged.gain.is_better,
        facts=facts(arguments, judged),
        header=["system", "task", *(measure.MEASURES if judged.is_judged else [measure.AGREEMENT])],
        cells=judged.cells,
        pictures=[(title, draw(figure)) for title, figure in pictures],
        examples=examples(judged),
        systems=(START, judged.best.title),
    )
    write_text(arguments.folder / PAGE, text)


def facts(arguments: RetrieverArguments, judged: Judged) -> list[tuple[str, str]]:
    """Return what went into the run, as pairs of a name and a text."""
    queries = json.loads((arguments.folder / QUERIES).read_text(encoding="utf-8"))
    train = queries["train"]
    training = f"{train['queries']:,}, of which {train['judged']:,} are judged"
    if queries["synthetic"]:
        training += f"; {queries['synthetic']:,} queries of the data were made of its documents"
    teachers = [" + ".join(arguments.teacher)]
    for trial in judged.trained:
        if trial.teacher:
            teachers.append(f"{trial.title}: taught by {trial.teacher}")
    return [
        ("data", f"{arguments.data}: {queries['documents']:,} documents"),
        ("training queries", training),
        ("started from", arguments.encoder + describe_layers(arguments)),
        ("teacher", "; ".join(teachers)),
        ("students", ", ".join(trial.title for trial in judged.trained)),
        ("measured on", measure.describe_queries(arguments, len(judged.lists.rows))),
    ]


def describe_layers(arguments: RetrieverArguments) -> str:
    """Say which of the encoder's layers the students have; nothing where they have all."""
    if arguments.layers is None:
        return ""
    return f": its first {arguments.layers} layers, which learned to embed as all of them do"


def compare(judged: Judged, name: str) -> Figure:
    """Draw the systems' means and intervals in the task that decides."""
    values = {}
    for system, evaluation in judged.evaluations[judged.task].items():
        per_query = [query[MEASURE] for query in evaluation.per_query.values()]
        values[system] = evaluation.values[MEASURE], bootstrap_interval(per_query)
    return plots.comparison(values, {}, name, "", f"{judged.task}, {len(judged.lists.rows)} queries")


def read_curves(arguments: RetrieverArguments, judged: Judged) -> dict[str, dict[str, list[float]]]:
    """Return each student's measure by step, on its sample of training queries and on dev queries."""
    curves = {}
    for trial in judged.trained:
        record = json.loads((arguments.student(trial.name) / "training.json").read_text(encoding="utf-8"))
        points = [entry for entry in record["log_history"] if f"train_{MEASURE}" in entry]
        curve = {}
        for name, key in {"step": "step", "train": f"train_{MEASURE}", "dev": f"eval_{MEASURE}"}.items():
            curve[name] = [point[key] for point in points]
        if points:
            curves[trial.title] = curve
    return curves


def scores_by_label(judged: Judged) -> dict[str, tuple[list[float], list[float]]]:
    """Return the scores of relevant and of other candidates, for the start, the chosen student and the teacher."""
    scores: dict[str, tuple[list[float], list[float]]] = {}
    for name in (START, judged.best.title, "teacher"):
        relevant, irrelevant = scores[name] = [], []
        for query, ranking in judged.runs["re-ranking"][name].items():
            wanted = judged.relevant(query)
            for document, score in ranking.items():
                (relevant if document in wanted else irrelevant).append(score)
    return scores


def examples(judged: Judged) -> Iterator[tuple[str, list[dict]]]:
    """Yield the queries that gained most, and those that lost most, each with its best documents before and after."""
    before, after = (judged.evaluations[judged.task][name].per_query for name in (START, judged.best.title))
    gains = {query: after[query][MEASURE] - before[query][MEASURE] for query in before}
    ordered = sorted(gains, key=lambda query: (-gains[query], query))
    texts = dict(zip(judged.lists.rows["query_id"], judged.lists.rows["query"], strict=True))
    better = [query for query in ordered[:EXAMPLES] if gains[query] > 0]
    worse = [query for query in reversed(ordered[-EXAMPLES:]) if gains[query] < 0]
    for heading, queries in (("Queries that gained most", better), ("Queries that lost most", worse)):
        entries = []
        for query in queries:
            tops = [best_documents(judged, name, query) for name in (START, judged.best.title)]
            entry = {"query": texts[query], "gain": f"{gains[query]:+.2f}", "rows": list(zip(*tops, strict=False))}
            entries.append(entry)
        yield heading, entries


def best_documents(judged: Judged, system: str, query: str) -> list[dict]:
    """Return the best documents of a system for a query: their text, cut, and whether they are relevant."""
    ranking = judged.runs[judged.task][system][query]
    ids = sorted(ranking, key=lambda document: (-ranking[document], document))[:RANKS]
    wanted = judged.relevant(query)
    documents = []
    for document, text in zip(ids, judged.lists.documents.texts(ids), strict=True):
        line = " ".join(text.split())
        shown = line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
        documents.append({"text": shown, "is_relevant": document in wanted})
    return documents


def draw(figure: Figure) -> str:
    """Return a figure as the address of an SVG image that holds all of it; the same figure gives the same text."""
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "report", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
