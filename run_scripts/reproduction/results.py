"""What a study has measured so far, as plain values: the content of results.json."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from m3se.hub_cards.paper import TABLES
from m3se.run_scripts.publishing.card_values import read_json
from m3se.run_scripts.reproduction.plan import MODEL, TRANSFER, Measured, Planner
from m3se.run_scripts.reproduction.study import Study
from m3se.trainers.evaluation.run_metrics import Evaluation
from m3se.trainers.evaluation.significance import compare, share_interval
from m3se.trainers.run_folder import RECORD


BM25 = "BM25"
SETTING = ("data", "split", "queries", "candidates", "candidate_recall", "depth", "relevance_level")


def collect(study: Study, planner: Planner, seeds: list[int]) -> dict:
    """Every row with its seeds, means, deviations, intervals, tests and shares of the gap, and what is missing."""
    measured = {
        (name, seed): planner.measured(study, row, seed, seeds[0])
        for name, row in study.rows.items()
        for seed in seeds
    }
    jobs = {job.name: job for one in measured.values() for job in one.jobs()}
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
        "rows": {name: {"paper_row": row.paper_row, "values": {}} for name, row in study.rows.items()},
        "selection": selection(study, planner, seeds[0]),
        "diagnosis": diagnosis(study, planner, seeds),
        "paper": paper_rows(study),
    }
    for evaluation in [*study.evaluations(), *([TRANSFER] if planner.transfer else [])]:
        add_evaluation(results, study, evaluation, measured)
    for name, entry in results["rows"].items():
        if name in study.rows:
            entry["training"] = training(measured[name, seeds[0]])
        if {"train MRR@10", "rerank MRR@10"} <= entry["values"].keys():
            train, test = (entry["values"][f"{split} MRR@10"]["mean"] for split in ("train", "rerank"))
            entry["train_minus_test"] = train - test
    return results


def add_evaluation(results: dict, study: Study, evaluation: str, measured: dict[tuple[str, int], Measured]) -> None:
    """The rows' values in one evaluation: per measure mean, sd over seeds, interval, and p-value."""
    folders: dict[str, dict[int, Path]] = {}
    for (name, seed), one in measured.items():
        job = one.evaluations.get(evaluation)
        if job is None or not job.done:
            continue
        if job.folder / MODEL not in folders.setdefault(name, {}).values():  # one teacher for all seeds
            folders[name][seed] = job.folder / MODEL
        if (job.folder / "bm25").is_dir():
            folders.setdefault(BM25, {}).setdefault(seed, job.folder / "bm25")
    if not folders:
        return
    evaluations = {name: mean_evaluation(list(of_seeds.values())) for name, of_seeds in folders.items()}
    against = study.baseline if study.baseline in evaluations and len(evaluations) > 1 else None
    comparison = compare(evaluations, against)
    closed = gaps_closed(evaluations, study.baseline, study.upper)
    shown = read_json(
        next(iter(folders[name] for name in folders if name != BM25)).copy().popitem()[1] / "metrics.json"
    )
    results["measured_on"][evaluation] = {key: shown[key] for key in SETTING if key in shown}
    for name, found in evaluations.items():
        row = results["rows"].setdefault(name, {"paper_row": name if name in results["paper"] else None, "values": {}})
        seeds = {} if name == BM25 else folders[name]
        for measure, mean in found.values.items():
            each = {seed: read_json(folder / "metrics.json")[measure] for seed, folder in seeds.items()}
            row["values"][f"{evaluation} {measure}"] = {
                "mean": mean,
                "sd": deviation(each.values()),
                "seeds": each,
                "interval_95": comparison.intervals[name][measure],
                "p_value": comparison.p_values.get(name, {}).get(measure),
            } | closed.get((name, measure), {})


def deviation(values: Iterable[float]) -> float | None:
    """Standard deviation of the seeds' values; None of one, or of one that all seeds share."""
    values = list(values)
    return float(np.std(values, ddof=1)) if len(set(values)) > 1 else None


def diagnosis(study: Study, planner: Planner, seeds: list[int]) -> dict[str, dict[str, dict]]:
    """What the diagnoses of the seeds' models found: figure → model → its mean, deviation and value of each seed."""
    jobs = {seed: planner.diagnosis(study, seed, seeds[0]) for seed in seeds}
    models = [name for name, _ in study.diagnose.get("model", [])]
    found: dict[str, dict[str, dict[int, float]]] = {}
    for seed, job in jobs.items():
        if job is not None and job.done:
            for figure, model, value in of_models(read_json(job.folder / "summary.json"), models):
                found.setdefault(figure, {}).setdefault(model, {})[seed] = value
    return {
        figure: {
            model: {"mean": float(np.mean(list(each.values()))), "sd": deviation(each.values()), "seeds": each}
            for model, each in by_model.items()
        }
        for figure, by_model in found.items()
    }


def of_models(summary: dict, models: list[str]) -> Iterator[tuple[str, str, float]]:
    """(figure, model, value) of all in a diagnosis's summary that is of one model and is defined."""
    for section, of in summary.items():
        for model in [name for name in models if name in of]:
            values = of[model] if isinstance(of[model], dict) else {"": of[model]}
            yield from ((f"{section} {field}".strip(), model, v) for field, v in values.items() if v is not None)


def mean_evaluation(folders: list[Path]) -> Evaluation:
    """Each query's values, averaged over the seeds in whose folders they are."""
    tables = [read_queries(folder / "per_query.jsonl") for folder in folders]
    per_query = {
        query: {measure: float(np.mean([table[query][measure] for table in tables])) for measure in values}
        for query, values in tables[0].items()
    }
    measures = next(iter(per_query.values()))
    values = {measure: float(np.mean([row[measure] for row in per_query.values()])) for measure in measures}
    return Evaluation(values, per_query, 0)


def read_queries(file: Path) -> dict[str, dict[str, float]]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row.pop("query_id"): row for row in rows}


def selection(study: Study, planner: Planner, seed: int) -> dict[str, list[dict]]:
    """Student → its trials, with the dev measure of those that are done."""
    found = {}
    for student in dict.fromkeys(row.model for row in study.rows.values() if row.model in planner.scale.students):
        trials = planner.trials(student, seed)
        values = [planner.dev_value(job) if job.done else None for _, job in trials]
        if trials:
            best = values.index(max(values)) if None not in values else None
            found[student] = [
                {"settings": settings, "dev": value, "chosen": place == best}
                for place, ((settings, _), value) in enumerate(zip(trials, values, strict=True))
            ]
    return found


def training(one: Measured) -> dict:
    """How a row's first seed was trained, from its record."""
    if not one.training.done:
        return {}
    record = read_json(one.training.folder / RECORD)
    names = ("loss", "loss_args", "hardware", "seconds", "versions")
    hyperparameters = record["hyperparameters"]
    found = {name: record[name] for name in names if record.get(name) is not None}
    kept = ("learning_rate", "per_device_train_batch_size", "num_train_epochs", "max_steps", "lr_scheduler_type")
    return found | {"data": record["data"], **{name: hyperparameters[name] for name in kept}}


def paper_rows(study: Study) -> dict[str, dict[str, float | None]]:
    """The paper's rows by our names of the columns."""
    table = TABLES.get(study.table)
    if table is None:
        return {}
    names = [row.paper_row for row in study.rows.values() if row.paper_row] + [BM25] * (BM25 in table.rows)
    return {
        name: {ours: table.value(name, theirs) for ours, theirs in study.columns.items() if theirs} for name in names
    }


def gaps_closed(
    evaluations: dict[str, Evaluation], baseline: str | None, upper: str | None
) -> dict[tuple[str, str], dict]:
    """(row, measure) → the share of the distance from baseline to upper row that it covers, with its 95% interval;
    nothing where there is no distance."""
    if not {baseline, upper} <= evaluations.keys():
        return {}
    queries = list(evaluations[upper].per_query)
    found = {}
    for name in evaluations.keys() - {baseline, upper, BM25}:
        for measure in evaluations[upper].values:
            three = [
                np.array([evaluations[one].per_query[query][measure] for query in queries])
                for one in (name, baseline, upper)
            ]
            covered = share(*(column.mean() for column in three))
            if covered is not None:
                found[name, measure] = {"gap_closed": float(covered), "gap_closed_95": share_interval(*three)}
    return found


def share(value: float, low: float, high: float) -> float | None:
    """(value − low) / (high − low); None where there is no gap to close."""
    return (value - low) / (high - low) if high > low else None
