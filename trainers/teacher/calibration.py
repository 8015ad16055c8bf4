"""Statistics of a teacher's scores, and the distillation temperature that they suggest."""

from dataclasses import asdict, dataclass, field
from operator import itemgetter

import numpy as np

from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.teacher.targets import SoftmaxTargets, find_temperature, softmax_targets


TARGET_SPREAD = 2.0  # standard deviation of scores within a list, after division by the suggested temperature
FLAT_SHARE = 0.9  # softmax targets over more than this share of a list's documents teach little order
ONE_HOT_DOCUMENTS = 1.1  # softmax targets over fewer documents than this teach what labels teach


@dataclass(frozen=True)
class Calibration:
    """Statistics of the teacher scores of ranking lists.

    Attributes:
        pairs, unknown: number of pairs with a score, and without.
        spread: mean over queries of the standard deviation within a list.
        mean_margin: mean over queries of positive minus negative scores.
        positive_mean, negative_mean, mean_margin, top_is_positive: None without a list of positives and negatives.
        targets, suggested: softmax targets at temperature 1 (or the one asked about), and at the suggested one.
        auto: softmax targets at the temperature of `teacher_temperature: auto`; None where it finds none.
        warning: why temperature 1 would not do; None when it would.
        combination: how several teachers were made one; None for one teacher.
        alone: [name, its `top_is_positive`] of each of several teachers.
        rank_targets: the rule that made scores of a run's ranks; None for scores.
    """

    queries: int
    pairs: int
    unknown: int
    documents_per_query: float
    mean: float
    standard_deviation: float
    minimum: float
    maximum: float
    spread: float
    positive_mean: float | None
    negative_mean: float | None
    mean_margin: float | None
    top_is_positive: float | None
    targets: SoftmaxTargets
    suggested: SoftmaxTargets
    warning: str | None
    auto: SoftmaxTargets | None = None
    combination: str | None = None
    alone: list[list] = field(default_factory=list)
    rank_targets: str | None = None

    def as_dict(self) -> dict:
        """Return plain values for calibration.json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Report the statistics, one statement a line."""
        lines = [
            f"{self.queries:,} queries, {self.pairs:,} pairs, {self.documents_per_query:.1f} documents per query",
            f"teacher scores: mean {self.mean:.3f}, standard deviation {self.standard_deviation:.3f}, "
            f"from {self.minimum:.3f} to {self.maximum:.3f}; within a list {self.spread:.3f}",
        ]
        if self.unknown:
            lines.append(f"{self.unknown:,} more pairs have no known score and are left out here")
        if self.top_is_positive is not None:
            lines += [
                f"positives {self.positive_mean:.3f}, negatives {self.negative_mean:.3f}, "
                f"mean margin {self.mean_margin:.3f}",
                f"the teacher's best document is labelled positive for {self.top_is_positive:.1%} of the queries",
            ]
        for targets in (self.targets, self.suggested):
            lines.append(
                f"softmax targets at temperature {targets.temperature:.3g}: best document "
                f"{targets.top_probability:.3f}, spread over {targets.effective_documents:.2f} documents"
            )
        if self.combination:
            lines.append(f"several teachers: {self.combination}")
        if self.alone:
            lines.append(f"each alone: {', '.join(f'{name} {share:.1%}' for name, share in self.alone)}")
        if self.rank_targets:
            lines.append(f"scores stand for ranks: {self.rank_targets}")
        rule = f"suggested temperature {self.suggested.temperature:.3g} = spread within a list / {TARGET_SPREAD:g}"
        return [*lines, rule, *(f"warning: {warning}" for warning in (self.warning, self.mean_warning()) if warning)]

    def mean_warning(self) -> str | None:
        """Say which teacher alone agrees with the labels more often than the mean; None where none does."""
        name, share = max(self.alone, key=itemgetter(1), default=("", -1.0))
        if self.top_is_positive is None or share <= self.top_is_positive:
            return None
        return (
            f"{name} alone puts the labelled document first for {share:.1%} of the queries, the mean for "
            f"{self.top_is_positive:.1%}: a student may learn more from it, or from other --teacher_weights"
        )


def calibrate(lists: RankingLists, temperature: float = 1.0) -> Calibration:
    """Measure the column `teacher_scores` of annotated lists; NaN is a score that is not known.

    Args:
        lists: with teacher scores.
        temperature: that of `targets`.

    Raises:
        InputError: there is no score, one is infinite (its query is named), or all are the same.
    """
    scores, labels, sizes, unknown = flat_columns(lists)
    if scores.min() == scores.max():
        raise InputError(f"all {len(scores):,} teacher scores are {scores[0]:g}: a constant teacher ranks nothing")
    starts = np.append(0, np.cumsum(sizes)[:-1])
    means = np.add.reduceat(scores, starts) / sizes
    deviations = np.sqrt(np.add.reduceat((scores - np.repeat(means, sizes)) ** 2, starts) / sizes)
    spread = float(deviations.mean())
    targets = softmax_targets(scores, starts, sizes, temperature)
    # Lists that differ only from each other (each constant in itself) have no spread to divide by.
    suggested = softmax_targets(scores, starts, sizes, spread / TARGET_SPREAD if spread > 0 else 1.0)
    auto = find_temperature(scores, sizes)
    return Calibration(
        queries=len(sizes),
        pairs=len(scores),
        unknown=unknown,
        documents_per_query=float(sizes.mean()),
        mean=float(scores.mean()),
        standard_deviation=float(scores.std()),
        minimum=float(scores.min()),
        maximum=float(scores.max()),
        spread=spread,
        **compare_with_labels(scores, labels, starts, sizes),
        targets=targets,
        suggested=suggested,
        warning=temperature_warning(targets, suggested.temperature, float(sizes.mean())),
        auto=None if auto is None else softmax_targets(scores, starts, sizes, auto),
        combination=lists.report.get("teacher_combination"),
        alone=teachers_alone(lists),
        rank_targets=rank_rules(lists.report.get("teachers", [])),
    )


def rank_rules(teachers: list[dict]) -> str | None:
    """List the rules by which ranks became scores; None where there is none."""
    rules = [teacher["rank_targets"] for teacher in teachers if teacher.get("rank_targets")]
    return ", ".join(rules) or None


def teachers_alone(lists: RankingLists) -> list[list]:
    """Return of each of several teachers its name and how often its best document is labelled positive.

    Counted are the pairs that the mean knows, those that every teacher scores. Empty for one teacher, and without a
    list of positives and negatives.
    """
    shares = []
    for number, teacher in enumerate(lists.report.get("teachers", [])):
        column = f"teacher_scores_{number}"
        if column not in lists.rows.column_names:
            return []
        scores, labels, sizes, _ = flat_columns(lists, column)
        starts = np.append(0, np.cumsum(sizes)[:-1])
        shares.append([teacher["name"], compare_with_labels(scores, labels, starts, sizes)["top_is_positive"]])
    return [] if any(share is None for _, share in shares) else shares


def flat_columns(
    lists: RankingLists, column: str = "teacher_scores"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Flatten the known scores [n] and their labels [n] (float64), with sizes of lists and a count of unknown scores.

    Known is what `teacher_scores` has. The sizes [lists] count known scores, of the lists that have any.

    Args:
        lists: with the column.
        column: that of the scores.

    Raises:
        InputError: there is no known score, or one is infinite.
    """
    if "teacher_scores" not in lists.rows.column_names:
        raise InputError("the lists have no teacher scores; expected a teacher, or data that brings scores")
    scores, labels, sizes, unknown = [], [], [], 0
    for rows in lists.rows.iter(1_000):
        columns = zip(rows["query_id"], rows[column], rows["labels"], rows["teacher_scores"], strict=True)
        for query, *values in columns:
            row_scores, row_labels, row_means = np.asarray(values, dtype=np.float64)
            if np.isinf(row_scores).any():
                raise InputError(f"query {query!r}: teacher scores are not finite: {values[0]}")
            is_known = ~np.isnan(row_means)
            unknown += int((~is_known).sum())
            if is_known.any():
                scores.append(row_scores[is_known])
                labels.append(row_labels[is_known])
                sizes.append(np.count_nonzero(is_known))
    if not scores:
        raise InputError(f"the lists hold no document with a teacher score to calibrate on ({unknown:,} without)")
    return np.concatenate(scores), np.concatenate(labels), np.asarray(sizes), unknown


def compare_with_labels(scores: np.ndarray, labels: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> dict:
    """Compare positives with negatives, over the queries that have both. Equal scores put no positive on top."""
    positive = labels > 0
    best_positive = np.maximum.reduceat(np.where(positive, scores, -np.inf), starts)
    best_negative = np.maximum.reduceat(np.where(positive, -np.inf, scores), starts)
    has_both = np.isfinite(best_positive) & np.isfinite(best_negative)
    if not has_both.any():
        return dict.fromkeys(("positive_mean", "negative_mean", "mean_margin", "top_is_positive"))
    compared = np.repeat(has_both, sizes)
    counts = np.add.reduceat(positive.astype(np.float64), starts)
    positive_means = np.add.reduceat(np.where(positive, scores, 0), starts)[has_both] / counts[has_both]
    negative_means = np.add.reduceat(np.where(positive, 0, scores), starts)[has_both] / (sizes - counts)[has_both]
    return {
        "positive_mean": float(scores[positive & compared].mean()),
        "negative_mean": float(scores[~positive & compared].mean()),
        "mean_margin": float((positive_means - negative_means).mean()),
        "top_is_positive": float((best_positive > best_negative)[has_both].mean()),
    }


def temperature_warning(targets: SoftmaxTargets, suggested: float, size: float) -> str | None:
    """Say why temperature 1 would not do; None when it would."""
    documents = targets.effective_documents
    if documents > FLAT_SHARE * size:
        kind = f"nearly flat: spread over {documents:.2f} of {size:.1f} documents"
    elif documents < ONE_HOT_DOCUMENTS:
        kind = f"nearly one-hot: spread over {documents:.2f} documents, the best has {targets.top_probability:.3f}"
    else:
        return None
    return f"softmax targets at temperature 1 are {kind}; try teacher_temperature {suggested:.3g}"
