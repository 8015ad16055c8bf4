"""The sections of diagnose.py's report: what is computed, drawn and said of each diagnostic."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
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
            columns = to_columns(rows)
            curves[name] = {
                "step": columns["step"],
                "train": columns[f"train {MEASURE}"],
                "dev": columns[f"dev {MEASURE}"],
            }
            queries[name] = record.get("evaluated_on")
    if not curves:
        logger.info("no model folder has a %s with evaluations: no learning curves", RECORD)
        return
    title = f"{MEASURE} while training · {report.data}{measured_on(queries)} · {', '.join(curves)}"
    gaps = {name: curve["train"][-1] - curve["dev"][-1] for name, curve in curves.items()}
    report.summary["generalisation_gap"] = gaps
    listed = ", ".join(f"{name} {gap:+.3f}" for name, gap in gaps.items())
    text = (
        "The gap between training and dev queries is what dual encoders suffer from (train − dev at the end: "
        f"{listed})."
    )
    figure = plots.learning_curves(curves, MEASURE, title)
    report.picture("learning_curves", "Learning curves", text, figure, stack(curves))


def to_columns(rows: list[dict]) -> dict[str, list]:
    """Turn rows of the same keys into columns."""
    columns = defaultdict(list)
    for row in rows:
        for key, value in row.items():
            columns[key].append(value)
    return columns


def stack(models: dict[str, dict[str, Sequence]]) -> dict[str, list]:
    """Put the columns of several models below each other, with a first column that names the model."""
    columns = defaultdict(list)
    for name, parts in models.items():
        columns["model"] += [name] * len(next(iter(parts.values())))
        for key, values in parts.items():
            columns[key] += list(values)
    return columns


def measured_on(queries: dict[str, dict | None]) -> str:
    """Return the query counts for the title, if all models agree."""
    first, *rest = queries.values()
    if first is None or rest.count(first) < len(rest):
        return ""
    return f", {first['dev']:,} dev and {first['train']:,} train queries"


def embedding_sizes(report: Report, points: dict[str, dict[str, list]], queries: dict[str, int]) -> None:
    """Show the measure by embedding size.

    `points` holds model → {"size", "train", "dev"}, lists of one length, and `queries` the number of each split's.
    """
    split = f"{report.splits['train']}, {queries['train']:,} queries, and {report.splits['dev']}"
    title = report.title(f"{MEASURE} by embedding size", split, queries["dev"], list(points))
    text = "A model of one size is drawn as a line across."
    figure = plots.embedding_sizes(points, MEASURE, title)
    report.picture("embedding_sizes", "Embedding size", text, figure, stack(points))


def measure_models(measure: Callable, scored: ScoredLists, *arguments) -> dict:
    """Return model → `measure` of its scores, the labels and `arguments`."""
    return {name: measure(values, scored.labels, *arguments) for name, values in scored.scores.items()}


def distributions(report: Report, scored: ScoredLists, split: str) -> None:
    """Draw scores of positives and negatives, centred and raw, with how far they overlap."""
    summary, overlaps = {}, []
    for name, separation in measure_models(diagnostics.separation, scored, scored.rows).items():
        summary[name] = asdict(separation)
        overlaps.append(f"{name}: overlap {separation.overlap:.2f}, AUC {separation.auc:.3f}")
    report.summary[f"separation_{split}"] = summary
    text = f"Common area of the densities, and AUC. {'; '.join(overlaps)}."
    for centred in (True, False):
        kind = "centred" if centred else "raw"
        samples = measure_models(diagnostics.split_scores, scored, centred)
        title = report.title(f"Scores, {kind}", split, scored.queries)
        figure = plots.score_distributions(samples, title, same_scale=centred)
        name, heading = f"distributions_{split}_{kind}", f"Score distributions, {split}, {kind}"
        report.picture(name, heading, text, figure, scored.columns())


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
    values = measure_models(diagnostics.normalised_margins, scored, scored.rows)
    means = []
    for name, separation in measure_models(diagnostics.separation, scored, scored.rows).items():
        means.append(
            f"{name}: mean {values[name].mean():.3f}, {np.mean(values[name] <= 0):.0%} not above 0, densities overlap "
            f"by {separation.overlap:.2f}, AUC within a query {separation.auc_within:.3f}"
        )
    text = f"(s⁺ − s⁻)/ρ of all pairs of a query, ρ the model's score range. {'; '.join(means)}."
    figure = plots.margin_distributions(values, report.title("Normalised margins", "dev", scored.queries))
    report.picture("margins", "Normalised margins", text, figure, values)


def calibration(report: Report, scored: ScoredLists) -> None:
    """Compare how far each student's scores and orders are from the teacher's (§3.2)."""
    teacher, *students = scored.scores
    report.summary["agreement"] = {}
    lines, pairs, taus = [], {}, {}
    for name in students:
        pairs[name] = scored.scores[teacher], scored.scores[name]
        agreement = diagnostics.agreement(*pairs[name], scored.rows)
        lines.append(agreement_line(name, agreement))
        summary = asdict(agreement)
        taus[name] = summary.pop("taus")
        report.summary["agreement"][name] = summary
    figure = plots.calibrations(teacher, pairs, taus, report.title("Teacher and student", "dev", scored.queries))
    report.picture("calibration", "Teacher and student", "\n".join(lines), figure, scored.columns())
    report.table("kendall", stack({name: {"tau": values} for name, values in taus.items()}))


def agreement_line(name: str, agreement: diagnostics.Agreement) -> str:
    """Describe how far a student agrees with the teacher, as a line of a Markdown list."""
    tau = "undefined" if agreement.mean_tau is None else f"{agreement.mean_tau:.3f}"
    return (
        f"* {name}: baseline shift {agreement.baseline_shift:+.2f}, spread ratio {agreement.spread_ratio:.2f}, mean "
        f"Kendall τ {tau}, same best document for {agreement.top_1:.0%} of the queries"
    )


def disagreements(report: Report, scored: ScoredLists, count: int) -> None:
    """List negatives that the teacher scores low and the first student high."""
    low, high, *_ = scored.scores
    pairs = disagreement.disagreeing_pairs(scored, low, high, count)
    if not pairs:
        return
    columns = to_columns(list(map(asdict, pairs)))
    report.table("disagreements", columns)
    sample = range(0, len(scored.rows), max(1, len(scored.rows) // OVERLAP_SAMPLE))
    overlaps = [disagreement.token_overlap(scored.query(place), scored.text(place)) for place in sample]
    mean, usual = np.mean(columns["overlap"]), np.mean(overlaps)
    text = (
        f"Documents that are not relevant, scored low by {low} and high by {high}. They hold {mean:.0%} of the "
        f"query's words on average, all candidates {usual:.0%}.\n\n{disagreement.disagreement_table(pairs, low, high)}"
    )
    report.summary["disagreement_overlap"] = {"disagreements": float(mean), "all": float(usual)}
    report.text("Largest disagreements", text)


def side_by_side(report: Report, scored: ScoredLists) -> None:
    """Show the five best documents of the last two models, for the queries on which they differ most."""
    models = list(scored.scores.items())[-2:]
    names, scores = zip(*models, strict=True)
    tables, rows = [], []
    for part in disagreement.queries_apart(*scores, scored.labels, scored.rows, SIDE_BY_SIDE):
        query, shown = scored.query(part[0]), []
        for name, values in models:
            entries = []
            for rank, place in enumerate(part[np.argsort(-values[part], kind="stable")][:TOP], 1):
                document, label = scored.document_ids[place], scored.labels[place]
                entries.append((scored.text(place), float(label)))
                rows.append({"query": query, "model": name, "rank": rank, "document_id": document, "label": label})
            shown.append(entries)
        tables.append(disagreement.side_by_side(query, names, tuple(shown)))
    if not tables:
        return
    report.table("side_by_side", to_columns(rows))
    report.text(f"{names[0]} and {names[1]} side by side", "✔ marks relevant documents.\n\n" + "\n".join(tables))


def capacity(report: Report, teacher: str, matrix: np.ndarray) -> None:
    """Measure how large embeddings must be to hold the teacher's scores [B, N]."""
    measured = diagnostics.capacity(matrix)
    summary = {"queries": matrix.shape[0], "documents": matrix.shape[1], "rank": measured.rank}
    for error in (0.2, 0.1, 0.05):
        summary[f"size_for_error_{error}"] = measured.sufficient(error)
    report.summary["capacity"] = summary
    text = (
        f"{teacher}'s scores of {matrix.shape[0]} queries × {matrix.shape[1]} documents: rank {measured.rank}. Free "
        f"embeddings of size {measured.sufficient(0.1)} miss at most 10% of them (each query's mean taken off). The "
        f"curve ends at {min(matrix.shape)}, the highest rank that a sample of this size can have; more queries and "
        "documents may need more: --capacity_queries (of the first --max_queries) and --capacity_documents."
    )
    lost = 1 - np.array(measured.top_1)
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
