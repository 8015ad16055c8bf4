"""The paper's pictures: plain arrays in, a matplotlib `Figure` out.

Colours are those of Okabe & Ito (2008), which colour-blind readers can tell apart; lines differ in style and areas in
hatching as well, so that a grey print can be read. Every picture is 8 inches wide with letters of 9 points: readable
at the width of a model card. Titles come from the caller, who knows data set, number of queries and models.
"""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
POSITIVE, NEGATIVE = "#0072B2", "#E69F00"
WIDTH = 8.0  # inches
LETTERS = 9  # points
MOST_BINS, FEWEST_BINS = 60, 15
Numbers = Sequence[float] | np.ndarray


def learning_curves(curves: Mapping[str, Mapping[str, Numbers]], measure: str, title: str) -> Figure:
    """Draw a measure against steps, train dashed and dev solid (Figure 4).

    `curves` are model → {"step", "train", "dev"} of one length.
    """
    figure, (axes,) = panels(1, 4.0, title)
    for index, (model, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(curve["step"], curve["dev"], "-", marker="o", markersize=3, color=colour, label=f"{model}, dev")
        axes.plot(curve["step"], curve["train"], "--", marker="s", markersize=3, color=colour, label=f"{model}, train")
    label(axes, "training step", measure)
    return figure


def embedding_sizes(points: Mapping[str, Mapping[str, Numbers]], measure: str, title: str) -> Figure:
    """Draw a measure against embedding size (Figures 1 and 3).

    `points` are model → {"size", "train", "dev"}. A model of one size is drawn as a line across, since its score does
    not depend on the others' size.
    """
    figure, axes = panels(2, 3.6, title, share_y=True)
    for split, panel in zip(("train", "dev"), axes, strict=True):
        for index, (model, values) in enumerate(points.items()):
            style = {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)], "label": model}
            if len(values["size"]) == 1:
                panel.axhline(values[split][0], **style)
            else:
                order = np.argsort(values["size"])
                panel.plot(np.asarray(values["size"])[order], np.asarray(values[split])[order], marker="o", **style)
        sizes_axis(panel, np.concatenate([values["size"] for values in points.values()]))
        panel.set_title(split, fontsize=LETTERS)
        label(panel, "embedding size", measure)
    return figure


def score_distributions(models: Mapping[str, tuple[Numbers, Numbers]], title: str, same_scale: bool = False) -> Figure:
    """Draw densities of the scores of positives and negatives, one panel per model (Figures 2, 5 and 6).

    `models` are model → (positives, negatives). On the same scale it shows which model's scores are spread widest.
    """
    figure, axes = panels(len(models), 2.9, title, share_x=same_scale)
    for panel, (model, (positives, negatives)) in zip(axes, models.items(), strict=True):
        draw_densities(panel, positives, negatives)
        label(panel, f"{model} score", "density", legend=panel is axes[0])
    return figure


def stage_distributions(stages: Mapping[str, Mapping[str, tuple[Numbers, Numbers]]], title: str) -> Figure:
    """Draw `score_distributions`, one row per stage of training (Figure 7).

    `stages` are stage → model → (positives, negatives). The last stage has every model, in the order of the columns.
    """
    names = list(list(stages.values())[-1])
    figure = Figure(figsize=(WIDTH, 2.2 * len(stages) + 0.5), layout="constrained", dpi=150)
    figure.suptitle(title, fontsize=LETTERS + 1)
    grid = figure.subplots(len(stages), len(names), squeeze=False)
    for row, (stage, models) in zip(grid, stages.items(), strict=True):
        for panel, name in zip(row, names, strict=True):
            if name not in models:
                panel.set_axis_off()
                continue
            draw_densities(panel, *models[name])
            panel.set_title(f"{name}, {stage}", fontsize=LETTERS)
            label(panel, "score", "density", legend=panel is grid[-1][0])
    return figure


def margin_distributions(models: Mapping[str, Numbers], title: str) -> Figure:
    """Draw densities of the normalised margins (s⁺ − s⁻)/ρ (Figures 2, right, and 8).

    `models` are model → margins. Left of 0 the negative document ranks first.
    """
    figure, (axes,) = panels(1, 3.6, title)
    edges = common_bins(list(models.values()))
    for index, (model, values) in enumerate(models.items()):
        style = {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)], "linewidth": 1.8}
        axes.hist(values, edges, density=True, histtype="step", label=model, **style)
    axes.axvline(0, color="grey", linewidth=0.8)
    label(axes, "normalised margin", "density")
    return figure


def calibrations(
    teacher: str, scores: Mapping[str, tuple[Numbers, Numbers]], taus: Mapping[str, Numbers], title: str
) -> Figure:
    """Draw teacher against student scores, and below them Kendall's τ of each query.

    `scores` are student → (teacher scores, student scores), `taus` student → τ of each query. The darker a cell, the
    fewer documents.
    """
    figure = Figure(figsize=(WIDTH, 5.4), layout="constrained", dpi=150)
    figure.suptitle(title, fontsize=LETTERS + 1)
    above, below = figure.subplots(2, len(scores), squeeze=False)
    for panel, (student, (teacher_scores, student_scores)) in zip(above, scores.items(), strict=True):
        panel.hexbin(teacher_scores, student_scores, gridsize=40, bins="log", cmap="cividis", mincnt=1)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        label(panel, f"{teacher} score", f"{student} score", legend=False)
    for panel, student in zip(below, scores, strict=True):
        panel.hist(taus[student], np.linspace(-1, 1, 41), color=POSITIVE)
        panel.axvline(np.mean(taus[student]) if len(taus[student]) else 0, color="black", linestyle="--", label="mean")
        label(panel, f"Kendall τ of {teacher} and {student}", "queries")
    return figure


def capacity(ranks: Numbers, errors: Mapping[str, Numbers], singular_values: Numbers, title: str) -> Figure:
    """Draw the error of the best dot product of each size, and the singular values (Section 3.1).

    `errors` are name → relative error per rank.
    """
    figure, (losses, spectrum) = panels(2, 3.4, title)
    for index, (name, values) in enumerate(errors.items()):
        losses.plot(ranks, values, LINES[index], marker="o", markersize=3, color=COLOURS[index], label=name)
    sizes_axis(losses, ranks)
    losses.set_ylim(bottom=0)
    label(losses, "embedding size r", "relative error, share lost")
    spectrum.plot(np.arange(1, len(singular_values) + 1), singular_values, color=COLOURS[0])
    spectrum.set_yscale("log")
    label(spectrum, "index", "singular value", legend=False)
    return figure


def gradient_ratios(temperatures: Numbers, ratios: Mapping[str, Numbers], title: str) -> Figure:
    """Draw τ² times the gradient of softmax cross-entropy over ⅛ of margin MSE's (Proposition 3).

    `ratios` are name → ratio per τ.
    """
    figure, (axes,) = panels(1, 3.6, title)
    for index, (name, values) in enumerate(ratios.items()):
        style = {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)]}
        axes.plot(temperatures, values, linewidth=1.8, label=name, **style)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    label(axes, "temperature τ", "gradient ratio")
    return figure


def comparison(
    values: Mapping[str, tuple[float, tuple[float, float]]],
    shares: Mapping[str, tuple[float, tuple[float, float] | None, float | None]],
    measure: str,
    share: str,
    title: str,
) -> Figure:
    """Draw the rows of a table, and beside them the share of a gap that each row closes.

    Args:
        values: row → (mean, interval or None).
        shares: row → (share, interval or None, the paper's share or None).
        measure: label of the means.
        share: label of the shares.
        title: title of the figure.
    """
    figure, axes = panels(1 + bool(shares), 0.32 * len(values) + 1.3, title, share_y=True)
    places = {name: place for place, name in enumerate(values)}
    for name, (mean, interval) in values.items():
        draw_interval(axes[0], places[name], mean, interval)
    axes[0].set_yticks(list(places.values()), list(places))
    axes[0].invert_yaxis()
    label(axes[0], measure, "", legend=False)
    if shares:
        papers = []
        for name, (closed, interval, printed) in shares.items():
            draw_interval(axes[1], places[name], closed, interval)
            if printed is not None:
                papers.append((printed, places[name]))
        style = {"marker": "D", "facecolors": "none", "edgecolors": COLOURS[1], "zorder": 3}
        if papers:
            axes[1].lines[0].set_label("ours")
            axes[1].scatter(*zip(*papers, strict=True), label="the paper's", **style)
        for end in (0, 1):
            axes[1].axvline(end, color="grey", linewidth=0.8)
        axes[1].xaxis.set_major_formatter(PercentFormatter(1))
        label(axes[1], fill(share, 40), "", legend=bool(papers))
    return figure


def draw_interval(axes: Axes, place: int, value: float, interval: tuple[float, float] | None) -> None:
    """Draw a dot, and a bar where the interval is known."""
    axes.plot([value], [place], "o", color=COLOURS[0])
    if interval:
        axes.hlines(place, *interval, color=COLOURS[0], linewidth=1.8)


def panels(
    count: int, height: float, title: str, share_x: bool = False, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels in a row under one title.

    Args:
        count: number of panels.
        height: inches.
        title: title of the figure.
        share_x: whether the panels share a horizontal axis.
        share_y: whether they share a vertical one.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=150)
    figure.suptitle(title, fontsize=LETTERS + 1)
    return figure, list(figure.subplots(1, count, squeeze=False, sharex=share_x, sharey=share_y)[0])


def draw_densities(axes: Axes, positives: Numbers, negatives: Numbers) -> None:
    """Draw histograms of positives and negatives on the same bins, each of area 1."""
    edges = common_bins([positives, negatives])
    for values, name, colour, hatch in (
        (negatives, "negative", NEGATIVE, ""),
        (positives, "positive", POSITIVE, "////"),
    ):
        if len(values):
            style = {"facecolor": colour, "edgecolor": colour, "alpha": 0.45, "hatch": hatch}
            axes.hist(values, edges, density=True, histtype="stepfilled", label=name, **style)


def common_bins(samples: Sequence[Numbers]) -> np.ndarray:
    """Return edges of bins for all samples, so few that the smallest does not fall apart into single documents."""
    smallest = min((len(values) for values in samples if len(values)), default=0)
    count = int(np.clip(2 * np.sqrt(smallest), FEWEST_BINS, MOST_BINS))
    return np.histogram_bin_edges(np.concatenate(samples), count)


def sizes_axis(axes: Axes, sizes: Numbers) -> None:
    """Make the axis logarithmic, with a mark at each size, as far apart as their numbers need."""
    axes.set_xscale("log", base=2)
    marked: list[float] = []
    for size in np.unique(sizes):
        if not marked or size >= 1.4 * marked[-1]:
            marked.append(size)
    axes.set_xticks(marked, [f"{size:g}" for size in marked])
    axes.minorticks_off()


def label(axes: Axes, x: str, y: str, legend: bool = True) -> None:
    """Name the axes and, if wanted, draw the legend, in one size of letters; only the two axes are framed."""
    axes.set_xlabel(x, fontsize=LETTERS)
    axes.set_ylabel(y, fontsize=LETTERS)
    axes.tick_params(labelsize=LETTERS - 1)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(fontsize=LETTERS - 1, frameon=False, handlelength=3)  # long enough to show a line's style
