"""The end: systems on the queries that nothing was chosen by, one table, and one line for the student."""

import json
from dataclasses import asdict
from pathlib import Path

from m3se.run_scripts.retriever import measure
from m3se.run_scripts.retriever.gain import GAIN, bm25_run, searched_collection, seconds_per_text
from m3se.run_scripts.retriever.measure import MEASURE
from m3se.run_scripts.retriever.options import START, RetrieverArguments
from m3se.run_scripts.retriever.page import Judged, write_page
from m3se.run_scripts.retriever.trials import Trial
from m3se.trainers.data import RankingLists
from m3se.trainers.data.candidates import identical_ids
from m3se.trainers.data.readers.read_data import has_split
from m3se.trainers.evaluation.report import System, metrics
from m3se.trainers.evaluation.reranking import run_from_scores
from m3se.trainers.evaluation.run_metrics import Qrels
from m3se.trainers.evaluation.runs import Run, without_identical
from m3se.trainers.evaluation.significance import compare
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.retrieval.search import retrieve
from m3se.trainers.storage.atomic import write_json, write_text


VERDICT = "verdict.json"
TABLE = "table.md"
METRICS = "metrics.json"
FOUND = 100  # documents of a query that a search returns
SMALL_GAIN = 0.02
EASY_LISTS = 0.85
WIDE_GAP = 0.2


def judge(arguments: RetrieverArguments, trained: list[Trial], best: Trial) -> None:
    """Measure all systems on the test lists; write verdict.json, table.md and report.html, and print the first two.

    The published model of the best trial is in the folder `model`. Its embeddings of the collection stay in the cache,
    where search.py looks for them.

    Args:
        arguments: the options.
        trained: the trials, in their order.
        best: the one that was chosen.
    """
    scored = RankingLists.load(arguments.scored("test"))
    qrels = measure.read_qrels(arguments, "test")
    runs = rank(arguments, trained, best, scored, qrels)
    evaluations = {task: measure.evaluate(arguments, systems, qrels, scored) for task, systems in runs.items()}
    judged = Judged(trained, best, scored, qrels, runs, evaluations)
    line = verdict_line(arguments, judged)
    (arguments.folder / METRICS).unlink(missing_ok=True)  # of a run with judgments
    if judged.is_judged:
        write_metrics(arguments, judged)
    write(arguments, judged, line)
    write_page(arguments, judged, line)


def rank(
    arguments: RetrieverArguments, trained: list[Trial], best: Trial, scored: RankingLists, qrels: Qrels | None
) -> dict[str, dict[str, Run]]:
    """Rank by every system: the candidates, and where there are judgments all documents too.

    Args:
        arguments: the options.
        trained: the trials, in their order.
        best: the one that was chosen.
        scored: the test lists with teacher scores.
        qrels: the judgments.

    Returns:
        Runs by task and system.
    """
    reranked: dict[str, Run] = {"BM25": bm25_run(arguments, scored, qrels or {})}
    searched: dict[str, Run] = {"BM25": reranked["BM25"]}
    collection = searched_collection(scored, qrels or {})
    identical = set() if arguments.keep_identical_ids else identical_ids(collection)
    for name, folder in system_folders(arguments, trained, best).items():
        scorer = load_embedder(folder)
        if name not in (START, best.title):  # the others are not worth a whole collection
            reranked[name] = run_from_scores(scored, scorer.score_lists(scored))
            continue
        encoded = cached_encoding(scorer, scored.documents, arguments.cache_dir)
        reranked[name] = measure.encoded_run(scorer, encoded, scored)
        if qrels is not None:
            run = retrieve(scorer, collection.queries, encoded, FOUND + bool(identical))
            searched[name] = without_identical(run, identical, FOUND)
    reranked["teacher"] = measure.teacher_run(scored)
    return {"re-ranking": reranked} if qrels is None else {"re-ranking": reranked, "search": searched}


def write_metrics(arguments: RetrieverArguments, judged: Judged) -> None:
    """Write metrics.json, from which the card takes its figures: the student's search, tested against the start."""
    split = "test" if has_split(arguments.data, "test") else "held-out train"
    documents = f"all {len(judged.lists.documents):,} documents"
    setting = {"data": Path(arguments.data).name, "split": split, "candidates": documents}
    name, evaluations = judged.best.title, judged.evaluations["search"]
    comparison = compare({START: evaluations[START], name: evaluations[name]}, START)
    system = System(name, "model", judged.runs["search"][name], evaluations[name])
    write_json(arguments.folder / METRICS, metrics(system, setting, comparison))


def system_folders(arguments: RetrieverArguments, trained: list[Trial], best: Trial) -> dict[str, str]:
    """Return the folder of each system that embeds, by the name of its row."""
    folders = {START: str(arguments.start)}
    for trial in trained:
        folders[trial.title] = str(arguments.model if trial == best else arguments.student(trial.name))
    return folders


def verdict_line(arguments: RetrieverArguments, judged: Judged) -> str:
    """Say in a line whether the student is better than the start, and if not, the likeliest reason."""
    evaluations, gain = judged.evaluations[judged.task], judged.gain
    student, start = (evaluations[row].values[MEASURE] for row in (judged.best.title, START))
    name = MEASURE if judged.is_judged else measure.AGREEMENT
    words = "BETTER than the start" if gain.is_better else "NOT BETTER than the start"
    line = f"{words}: {name} {student:.3f} against {start:.3f} ({gain})"
    return line if gain.is_better else f"{line}. Likeliest reason: {likeliest_reason(arguments, judged.best)}"


def likeliest_reason(arguments: RetrieverArguments, chosen: Trial) -> str:
    """Find in the records of this run why a student gained nothing."""
    gain = json.loads((arguments.folder / GAIN).read_text(encoding="utf-8"))
    room = gain["teacher_minus_start"]["mean"]
    if room < SMALL_GAIN:
        return f"the teacher is barely better than the start ({room:+.3f} on the dev queries)"
    calibration = json.loads((arguments.scored("train") / "calibration.json").read_text(encoding="utf-8"))
    share = calibration["targets"]["top_probability"]
    if share > EASY_LISTS:
        return f"the lists are too easy (the teacher gives their best document {share:.2f} of its softmax on average)"
    train, dev = last_values(arguments.student(chosen.name))
    if train - dev > WIDE_GAP:
        return f"too few training queries ({MEASURE} {train:.2f} on them, {dev:.2f} on dev queries)"
    return "too little training for the gain that there is; give it more --hours, or a stronger teacher"


def last_values(student: Path) -> tuple[float, float]:
    """Return the last nDCG@10 of a student on its sample of training queries and on dev queries."""
    record = json.loads((student / "training.json").read_text(encoding="utf-8"))
    last = [entry for entry in record["log_history"] if f"eval_{MEASURE}" in entry][-1]
    return last[f"train_{MEASURE}"], last[f"eval_{MEASURE}"]


def write(arguments: RetrieverArguments, judged: Judged, line: str) -> None:
    """Write verdict.json and table.md, and print the table and the line."""
    values = {}
    for task, evaluations in judged.evaluations.items():
        values[task] = {name: evaluation.values for name, evaluation in evaluations.items()}
    text = measure.results_table(judged.cells, judged.is_judged)
    queries = len(next(iter(judged.evaluations[judged.task].values())).per_query)
    heading = measure.describe_queries(arguments, queries)
    speeds = {} if arguments.layers is None else measure_speeds(arguments, judged.lists)
    end = "\n\nA document takes {student:.2g} s to embed, at the start {start:.2g} s.\n" if speeds else "\n"
    print(f"\n{heading}\n\n{text}\n\n{line}{end.format(**speeds)}")
    write_text(arguments.folder / TABLE, f"{text}\n\n{heading}. {line}{end.format(**speeds)}")
    verdict = {"line": line, "is_better": judged.gain.is_better, "difference": asdict(judged.gain)}
    verdict |= {"chosen": judged.best.name, "queries": queries, "is_judged": judged.is_judged, "values": values}
    verdict |= {"seconds_per_text": speeds} if speeds else {}
    teachers = {trial.name: trial.teacher for trial in judged.trained if trial.teacher}
    write_json(arguments.folder / VERDICT, verdict | ({"taught_by": teachers} if teachers else {}))


def measure_speeds(arguments: RetrieverArguments, lists: RankingLists) -> dict[str, float]:
    """Return the seconds that the start and the published student take for a document of the lists."""
    return {
        "start": seconds_per_text(load_embedder(arguments.start), lists),
        "student": seconds_per_text(load_embedder(arguments.model), lists),
    }
