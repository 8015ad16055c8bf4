"""The content of results.json: all that a study has measured so far, as plain values."""

import json
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path

import numpy as np

from m3se.hub_cards.paper import TABLES
from m3se.run_scripts.publishing.card_values import read_json
from m3se.run_scripts.reproduction.plan import Measured, Planner
from m3se.run_scripts.reproduction.predictions import outcomes
from m3se.run_scripts.reproduction.rows import BM25
from m3se.run_scripts.reproduction.study import Study, evaluation_name
from m3se.run_scripts.reproduction.teaching import describe_lists, find_room
from m3se.trainers.evaluation.run_metrics import Evaluation
from m3se.trainers.evaluation.significance import compare, share_interval
from m3se.trainers.run_folder import RECORD


SETTING = ("data", "split", "queries", "candidates", "candidate_recall", "depth", "relevance_level")


def collect(study: Study, planner: Planner, seeds: list[int]) -> dict:
    """Collect every row with its seeds, means, deviations, intervals, tests and share of the gap, and missing jobs."""
    measured, jobs, rows = {}, {}, {}
    for name, row in study.rows.items():
        rows[name] = {"paper_row": row.paper_row, "values": {}}
        for seed in seeds:
            measured[name, seed] = planner.measured(study, row, seed, seeds[0])
            for job in measured[name, seed].jobs():
                jobs[job.name] = job
    results = {
        "study": study.name,
        "title": study.title,
        "scale": planner.scale.name,
        "data": Path(planner.data).name,
        "seeds": seeds,
        "baseline": study.baseline,
        "upper": study.upper,
        "missing": [name for name, job in jobs.items() if not job.done],
        "measured_on": {},
        "rows": rows,
        "selection": selection(study, planner, seeds[0]),
        "diagnosis": diagnosis(study, planner, seeds),
        "room": find_room(study, planner, seeds[0]),
        "lists": describe_lists(study, planner, seeds[0]),
        "predictions": outcomes(study, {}),
        "predicted_column": study.predicted_column(),
        "paper": paper_rows(study),
    }
    for evaluation in planner.evaluations(study):
        add_evaluation(results, study, evaluation, measured)
    for name, entry in results["rows"].items():
        if name in study.rows:
            entry["training"] = training(measured[name, seeds[0]])
        if {"train MRR@10", "rerank MRR@10"} <= entry["values"].keys():
            train, test = entry["values"]["train MRR@10"], entry["values"]["rerank MRR@10"]
            entry["train_minus_test"] = train["mean"] - test["mean"]
    return results


def add_evaluation(results: dict, study: Study, evaluation: str, measured: dict[tuple[str, int], Measured]) -> None:
    """Add the rows' values in one evaluation: per measure mean, sd over seeds, interval, and p-value."""
    folders: dict[str, dict[int, Path]] = {}
    for (name, seed), jobs in measured.items():
        job = jobs.evaluations.get(evaluation)
        if job is None or not job.done:
            continue
        folder = job.folder / jobs.system
        if folder not in folders.setdefault(name, {}).values():  # one teacher for all seeds
            folders[name][seed] = folder
        if (job.folder / "bm25").is_dir():
            folders.setdefault(BM25, {}).setdefault(seed, job.folder / "bm25")
    if not folders:
        return
    evaluations = {}
    for name, by_seed in folders.items():
        evaluations[name] = mean_evaluation(list(by_seed.values()))
    if evaluation == evaluation_name(results["predicted_column"]):
        results["predictions"] = outcomes(study, evaluations)
    against = study.baseline if study.baseline in evaluations and len(evaluations) > 1 else None
    comparison = compare(evaluations, against)
    closed = gaps_closed(evaluations, study.baseline, study.upper)
    first_model = next(name for name in folders if name != BM25)
    metrics = read_json(list(folders[first_model].values())[-1] / "metrics.json")
    results["measured_on"][evaluation] = {key: metrics[key] for key in SETTING if key in metrics}
    for name, means in evaluations.items():
        row = results["rows"].setdefault(name, {"paper_row": name if name in results["paper"] else None, "values": {}})
        by_seed = {}
        if name != BM25:
            for seed, folder in folders[name].items():
                by_seed[seed] = read_json(folder / "metrics.json")
        for measure, mean in means.values.items():
            each = {seed: metrics[measure] for seed, metrics in by_seed.items()}
            row["values"][f"{evaluation} {measure}"] = {
                "mean": mean,
                "sd": deviation(each.values()),
                "seeds": each,
                "interval_95": comparison.intervals[name][measure],
                "p_value": comparison.p_values.get(name, {}).get(measure),
            } | closed.get((name, measure), {})


def deviation(values: Iterable[float]) -> float | None:
    """Return the standard deviation of the seeds' values; None of one, or of one that all seeds share."""
    values = list(values)
    return float(np.std(values, ddof=1)) if len(set(values)) > 1 else None


def diagnosis(study: Study, planner: Planner, seeds: list[int]) -> dict[str, dict[str, dict]]:
    """Read the diagnoses of the seeds' models: figure → model → its mean, deviation and value of each seed."""
    models = [name for name, _ in study.diagnose.get("model", [])]
    figures: dict[str, dict[str, dict]] = {}
    for seed in seeds:
        job = planner.diagnosis(study, seed, seeds[0])
        if job is not None and job.done:
            for figure, model, value in values_by_model(read_json(job.folder / "summary.json"), models):
                figures.setdefault(figure, {}).setdefault(model, {})[seed] = value
    for by_model in figures.values():
        for model, each in by_model.items():
            mean = float(np.mean(list(each.values())))
            by_model[model] = {"mean": mean, "sd": deviation(each.values()), "seeds": each}
    return figures


def values_by_model(summary: dict, models: list[str]) -> Iterator[tuple[str, str, float]]:
    """Yield (figure, model, value) for each defined number in a diagnosis's summary that belongs to one model."""
    for section, entries in summary.items():
        for model in models:
            if model not in entries:
                continue
            values = entries[model] if isinstance(entries[model], dict) else {"": entries[model]}
            for field, value in values.items():
                if value is not None:
                    yield f"{section} {field}".strip(), model, value


def mean_evaluation(folders: list[Path]) -> Evaluation:
    """Average each query's values over the seeds in whose folders they are."""
    tables = [read_queries(folder / "per_query.jsonl") for folder in folders]
    per_query = {}
    for query in tables[0]:
        per_query[query] = mean_row([table[query] for table in tables])
    return Evaluation(mean_row(list(per_query.values())), per_query, 0)


def mean_row(rows: list[dict[str, float]]) -> dict[str, float]:
    """Average each measure over the rows."""
    means = {}
    for measure in rows[0]:
        means[measure] = float(np.mean([row[measure] for row in rows]))
    return means


def read_queries(file: Path) -> dict[str, dict[str, float]]:
    """Read each query's measures, by its id."""
    rows = {}
    for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        rows[row.pop("query_id")] = row
    return rows


def selection(study: Study, planner: Planner, seed: int) -> dict[str, list[dict]]:
    """Describe each student's trials, with the dev measure of those that are done; shared ones stand once."""
    selected = {}
    for student in dict.fromkeys(map(attrgetter("model"), study.rows.values())):
        if student not in planner.scale.students or planner.scale.selection is None:
            continue
        student = planner.scale.selection.tried(student)
        if trials := describe_trials(planner, student, seed):
            selected[student] = trials
    return selected


def describe_trials(planner: Planner, student: str, seed: int) -> list[dict]:
    """Describe a student's trials; the best is marked when all are done."""
    described, values = [], []
    for settings, job in planner.trials(student, seed):
        values.append(planner.dev_value(job) if job.done else None)
        described.append({"settings": settings, "dev": values[-1], "chosen": False})
    if values and None not in values:
        described[values.index(max(values))]["chosen"] = True
    return described


def training(jobs: Measured) -> dict:
    """Describe from its record how a row's model was trained; empty while it is not, and for a mean."""
    if len(jobs.trainings) > 1 or not jobs.trainings[0].done:
        return {}
    record = read_json(jobs.trainings[0].folder / RECORD)
    names = ("loss", "loss_args", "hardware", "seconds", "versions")
    hyperparameters = record["hyperparameters"]
    described = {name: record[name] for name in names if record.get(name) is not None}
    shown = ("learning_rate", "per_device_train_batch_size", "num_train_epochs", "max_steps", "lr_scheduler_type")
    return described | {"data": record["data"]} | {name: hyperparameters[name] for name in shown}


def paper_rows(study: Study) -> dict[str, dict[str, float | None]]:
    """Return the paper's rows by our names of the columns."""
    table = TABLES.get(study.table)
    if table is None:
        return {}
    names = [*map(attrgetter("paper_row"), study.rows.values()), *([BM25] if BM25 in table.rows else [])]
    rows: dict[str, dict[str, float | None]] = {}
    for name in filter(None, names):
        rows[name] = {}
        for column, paper_column in study.columns.items():
            if paper_column:
                rows[name][column] = table.value(name, paper_column)
    return rows


def gaps_closed(
    evaluations: dict[str, Evaluation], baseline: str | None, upper: str | None
) -> dict[tuple[str, str], dict]:
    """Compute by (row, measure) the share of the distance from baseline to upper row that it covers.

    Each has its 95% interval; there is nothing where there is no distance.
    """
    if not {baseline, upper} <= evaluations.keys():
        return {}
    queries = list(evaluations[upper].per_query)
    shares = {}
    for name in evaluations.keys() - {baseline, upper, BM25}:
        for measure in evaluations[upper].values:
            columns = []
            for system in (name, baseline, upper):
                per_query = evaluations[system].per_query
                columns.append(np.array([per_query[query][measure] for query in queries]))
            covered = share(*map(np.mean, columns))
            if covered is not None:
                shares[name, measure] = {"gap_closed": float(covered), "gap_closed_95": share_interval(*columns)}
    return shares


def share(value: float, low: float, high: float) -> float | None:
    """Return (value − low) / (high − low); None where there is no gap to close."""
    return (value - low) / (high - low) if high > low else None
