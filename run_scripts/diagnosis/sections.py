"""The sections of diagnose.py's report: what is computed, drawn and said of each diagnostic."""

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np

from m3se.hub_cards import plots
from m3se.run_scripts.diagnosis.report import Report
from m3se.run_scripts.publishing.card_values import learning_curve, read_json
from m3se.trainers.diagnostics import disagreement
from m3se.trainers.diagnostics import quantities as diagnostics
from m3se.trainers.diagnostics.scored_lists import ScoredLists
from m3se.trainers.run_folder import RECORD


logger = logging.getLogger(__name__)

MEASURE = "MRR@10"
TEMPERATURES = np.geomspace(0.1, 1000, 81)
OVERLAP_SAMPLE = 2_000  # candidates whose word overlap is measured for comparison
SIDE_BY_SIDE = 6  # queries
TOP = 5  # documents of each


def learning_curves(report: Report, models: list[tuple[str, str]]) -> None:
    """Draw the learning curves from the records of training, as far as there are any."""
    curves, queries = {}, {}
    for name, folder in models:
        record = read_json(Path(folder) / RECORD) if (Path(folder) / RECORD).is_file() else {}
        rows = learning_curve(record.get("log_history", []))
        if rows and f"dev {MEASURE}" in rows[0] and f"train {MEASURE}" in rows[0]:
            curves[name] = {
                "step": [row["step"] for row in rows],
                "train": [row[f"train {MEASURE}"] for row in rows],
                "dev": [row[f"dev {MEASURE}"] for row in rows],
            }
            queries[name] = record.get("evaluated_on")
    if not curves:
        logger.info("no model folder has a %s with evaluations: no learning curves", RECORD)
        return
    columns = {"model": [name for name, curve in curves.items() for _ in curve["step"]]}
    columns |= {key: np.concatenate([curve[key] for curve in curves.values()]) for key in ("step", "train", "dev")}
    title = f"{MEASURE} while training · {report.data}{measured_on(queries)} · {', '.join(curves)}"
    gaps = ", ".join(f"{name} {curve['train'][-1] - curve['dev'][-1]:+.3f}" for name, curve in curves.items())
    report.summary["generalisation_gap"] = {name: c["train"][-1] - c["dev"][-1] for name, c in curves.items()}
    text = (
        f"The gap between training and dev queries is what dual encoders suffer from (train − dev at the end: {gaps})."
    )
    report.picture("learning_curves", "Learning curves", text, plots.learning_curves(curves, MEASURE, title), columns)


def measured_on(queries: dict[str, dict | None]) -> str:
    """Return the query counts for the title, if all models agree."""
    first, *rest = queries.values()
    if first is None or any(counts != first for counts in rest):
        return ""
    return f", {first['dev']:,} dev and {first['train']:,} train queries"


def embedding_sizes(report: Report, points: dict[str, dict[str, list]], queries: dict[str, int]) -> None:
    """`points`: model → {"size", "train", "dev"}, lists of one length; `queries`: how many each split has."""
    columns = {"model": [name for name, values in points.items() for _ in values["size"]]}
    columns |= {key: np.concatenate([values[key] for values in points.values()]) for key in ("size", "train", "dev")}
    split = f"{report.splits['train']}, {queries['train']:,} queries, and {report.splits['dev']}"
    title = report.title(f"{MEASURE} by embedding size", split, queries["dev"], list(points))
    text = "A model of one size is drawn as a line across."
    report.picture("embedding_sizes", "Embedding size", text, plots.embedding_sizes(points, MEASURE, title), columns)


def distributions(report: Report, scored: ScoredLists, split: str) -> None:
    """Draw scores of positives and negatives, centred and raw, with how far they overlap."""
    measured = {
        name: diagnostics.separation(values, scored.labels, scored.rows) for name, values in scored.scores.items()
    }
    report.summary[f"separation_{split}"] = {name: asdict(values) for name, values in measured.items()}
    text = "; ".join(f"{name}: overlap {v.overlap:.2f}, AUC {v.auc:.3f}" for name, v in measured.items())
    for centred in (True, False):
        kind = "centred" if centred else "raw"
        both = {
            name: diagnostics.split_scores(values, scored.labels, centred) for name, values in scored.scores.items()
        }
        title = report.title(f"Scores, {kind}", split, scored.queries)
        figure = plots.score_distributions(both, title, same_scale=centred)
        name, heading = f"distributions_{split}_{kind}", f"Score distributions, {split}, {kind}"
        report.picture(name, heading, f"Common area of the densities, and AUC. {text}.", figure, scored.columns())


def stage_distributions(report: Report, scored: ScoredLists) -> None:
    """Draw scores at earlier checkpoints, which are called MODEL@STEP, and last at the end, called MODEL."""
    drawn: dict[str, dict[str, tuple]] = {}
    for name, values in scored.scores.items():
        model, _, step = name.partition("@")
        stage = drawn.setdefault(f"step {step}" if step else "end", {})
        stage[model] = diagnostics.split_scores(values, scored.labels, centred=True)
    figure = plots.stage_distributions(drawn, report.title("Centred scores while training", "dev", scored.queries))
    report.picture("stages", "Scores while training", "Rows are stages.", figure, scored.columns())


def margins(report: Report, scored: ScoredLists) -> None:
    """Draw the normalised margins of every model (Figures 2 and 8)."""
    values = {
        name: diagnostics.normalised_margins(scores, scored.labels, scored.rows)
        for name, scores in scored.scores.items()
    }
    measured = {
        name: diagnostics.separation(scores, scored.labels, scored.rows) for name, scores in scored.scores.items()
    }
    means = "; ".join(
        f"{name}: mean {margin.mean():.3f}, {np.mean(margin <= 0):.0%} not above 0, densities overlap by "
        f"{measured[name].overlap:.2f}, AUC within a query {measured[name].auc_within:.3f}"
        for name, margin in values.items()
    )
    text = f"(s⁺ − s⁻)/ρ of all pairs of a query, ρ the model's score range. {means}."
    figure = plots.margin_distributions(values, report.title("Normalised margins", "dev", scored.queries))
    report.picture("margins", "Normalised margins", text, figure, values)


def calibration(report: Report, scored: ScoredLists) -> None:
    """Compare how far each student's scores and orders are from the teacher's (§3.2)."""
    teacher, *students = scored.scores
    measured = {
        name: diagnostics.agreement(scored.scores[teacher], scored.scores[name], scored.rows) for name in students
    }
    report.summary["agreement"] = {
        name: {key: value for key, value in asdict(values).items() if key != "taus"}
        for name, values in measured.items()
    }
    lines = [
        f"* {name}: baseline shift {v.baseline_shift:+.2f}, spread ratio {v.spread_ratio:.2f}, mean Kendall τ "
        f"{'undefined' if v.mean_tau is None else f'{v.mean_tau:.3f}'}, same best document for {v.top_1:.0%} of the "
        "queries"
        for name, v in measured.items()
    ]
    pairs = {name: (scored.scores[teacher], scored.scores[name]) for name in students}
    taus = {name: values.taus for name, values in measured.items()}
    figure = plots.calibrations(teacher, pairs, taus, report.title("Teacher and student", "dev", scored.queries))
    report.picture("calibration", "Teacher and student", "\n".join(lines), figure, scored.columns())
    students = [name for name in taus for _ in taus[name]]
    report.table("kendall", {"model": students, "tau": np.concatenate(list(taus.values()))})


def disagreements(report: Report, scored: ScoredLists, count: int) -> None:
    """List negatives that the teacher scores low and the first student high."""
    low, high, *_ = scored.scores
    first, second = scored.scores[low], scored.scores[high]
    gaps = disagreement.score_gaps(first, second)
    pairs = []
    for place in disagreement.largest_disagreements(first, second, scored.labels, scored.rows, count):
        query, text = scored.query(place), scored.text(place)
        values = float(scored.labels[place]), float(first[place]), float(second[place]), float(gaps[place])
        overlap = disagreement.token_overlap(query, text)
        pairs.append(disagreement.Pair(query, scored.document_ids[place], text, *values, overlap))
    if not pairs:
        return
    report.table("disagreements", {key: [getattr(pair, key) for pair in pairs] for key in asdict(pairs[0])})
    sample = range(0, len(gaps), max(1, len(gaps) // OVERLAP_SAMPLE))
    overlaps = [disagreement.token_overlap(scored.query(place), scored.text(place)) for place in sample]
    mean, usual = np.mean([pair.overlap for pair in pairs]), np.mean(overlaps)
    text = (
        f"Documents that are not relevant, scored low by {low} and high by {high}. They hold {mean:.0%} of the "
        f"query's words on average, all candidates {usual:.0%}.\n\n{disagreement.disagreement_table(pairs, low, high)}"
    )
    report.summary["disagreement_overlap"] = {"disagreements": float(mean), "all": float(usual)}
    report.text("Largest disagreements", text)


def side_by_side(report: Report, scored: ScoredLists) -> None:
    """Show the five best documents of the last two models, for the queries on which they differ most."""
    names = tuple(scored.scores)[-2:]
    both = [scored.scores[name] for name in names]
    tables, rows = [], []
    for part in disagreement.queries_apart(*both, scored.labels, scored.rows, SIDE_BY_SIDE):
        tops = [part[np.argsort(-scores[part], kind="stable")][:TOP] for scores in both]
        shown = tuple([(scored.text(place), float(scored.labels[place])) for place in top] for top in tops)
        tables.append(disagreement.side_by_side(scored.query(part[0]), names, shown))
        for name, top in zip(names, tops, strict=True):
            rows += [
                (scored.query(p), name, rank, scored.document_ids[p], scored.labels[p])
                for rank, p in enumerate(top, 1)
            ]
    if not tables:
        return
    columns = ("query", "model", "rank", "document_id", "label")
    report.table("side_by_side", dict(zip(columns, zip(*rows, strict=True), strict=True)))
    report.text(f"{names[0]} and {names[1]} side by side", "✔ marks relevant documents.\n\n" + "\n".join(tables))


def capacity(report: Report, teacher: str, matrix: np.ndarray) -> None:
    """Measure how large embeddings must be to hold the teacher's scores [B, N]."""
    measured = diagnostics.capacity(matrix)
    report.summary["capacity"] = {
        "queries": matrix.shape[0],
        "documents": matrix.shape[1],
        "rank": measured.rank,
        **{f"size_for_error_{error}": measured.sufficient(error) for error in (0.2, 0.1, 0.05)},
    }
    text = (
        f"{teacher}'s scores of {matrix.shape[0]} queries × {matrix.shape[1]} documents: rank {measured.rank}. Free "
        f"embeddings of size {measured.sufficient(0.1)} miss at most 10% of them (each query's mean taken off). The "
        f"curve ends at {min(matrix.shape)}, the highest rank that a sample of this size can have; more queries and "
        "documents may need more: --capacity_queries (of the first --max_queries) and --capacity_documents."
    )
    lost = [1 - share for share in measured.top_1]
    errors = {
        "scores": measured.errors,
        "scores, queries centred": measured.centred_errors,
        "best document lost": lost,
    }
    figure = plots.capacity(
        measured.ranks,
        errors,
        measured.singular_values,
        report.title("Best dot products of size r", "dev", len(matrix), [teacher]),
    )
    columns = {
        "rank": measured.ranks,
        "error": measured.errors,
        "centred_error": measured.centred_errors,
        "top_1": measured.top_1,
    }
    report.picture("capacity", "Capacity", text, figure, columns)
    report.table("singular_values", {"singular_value": measured.singular_values})


def gradient_ratios(report: Report, scored: ScoredLists) -> None:
    """Draw Proposition 3 at the margins of teacher and first student: the quartiles of the positives' pairs."""
    teacher, student = list(scored.scores.values())[:2]
    teacher_margins = diagnostics.pair_margins(teacher, scored.labels, scored.rows)
    student_margins = diagnostics.pair_margins(student, scored.labels, scored.rows)
    quartiles = (np.array([0.25, 0.5, 0.75]) * (len(teacher_margins) - 1)).astype(int)
    places = np.argsort(teacher_margins, kind="stable")[quartiles]
    ratios = {}
    for place in places:
        t, s = float(teacher_margins[place]), float(student_margins[place])
        if t != s:
            ratios[f"margins: teacher {t:.2g}, student {s:.2g}"] = diagnostics.gradient_ratio(t, s, TEMPERATURES)
    text = "τ² ∂softmax cross-entropy over ⅛ ∂margin MSE: at a high temperature the two losses teach the same."
    title = report.title("Gradient ratio", "dev", scored.queries, report.models[:2])
    figure = plots.gradient_ratios(TEMPERATURES, ratios, title)
    report.picture("proposition_3", "Proposition 3", text, figure, {"temperature": TEMPERATURES, **ratios})
