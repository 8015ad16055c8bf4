"""What a teacher's scores look like, and what they ask of a distillation temperature."""

from dataclasses import asdict, dataclass

import numpy as np

from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError


TARGET_SPREAD = 2.0  # standard deviation of scores within a list, after division by the suggested temperature
FLAT_SHARE = 0.9  # softmax targets over more than this share of a list's documents teach little order
ONE_HOT_DOCUMENTS = 1.1  # softmax targets over fewer documents than this teach what labels teach


@dataclass(frozen=True)
class Targets:
    """softmax(teacher_scores / temperature), over all lists: the mean probability of a list's best document, and the
    mean number of documents the probability is spread over (the exponential of its entropy)."""

    temperature: float
    top_probability: float
    effective_documents: float


@dataclass(frozen=True)
class Calibration:
    """`pairs` are those with a score, `unknown` those without. `spread` is the mean over queries of the standard
    deviation within a list; margins are positive minus negative. What needs both positives and negatives is None when
    there are none."""

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
    targets: Targets
    suggested: Targets
    warning: str | None

    def as_dict(self) -> dict:
        """Plain values for calibration.json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report, one statement a line."""
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
        rule = f"suggested temperature {self.suggested.temperature:.3g} = spread within a list / {TARGET_SPREAD:g}"
        return [*lines, rule, *([f"warning: {self.warning}"] if self.warning else [])]


def calibrate(lists: RankingLists) -> Calibration:
    """Measure the column `teacher_scores` of annotated lists; NaN is a score that is not known.

    Raises InputError when there is none, one is infinite (its query is named), or all are the same.
    """
    scores, labels, sizes, unknown = flat_columns(lists)
    if scores.min() == scores.max():
        raise InputError(f"all {len(scores):,} teacher scores are {scores[0]:g}: a constant teacher ranks nothing")
    starts = np.append(0, np.cumsum(sizes)[:-1])
    means = np.add.reduceat(scores, starts) / sizes
    deviations = np.sqrt(np.add.reduceat((scores - np.repeat(means, sizes)) ** 2, starts) / sizes)
    spread = float(deviations.mean())
    targets = softmax_targets(scores, starts, sizes, 1.0)
    # Lists that differ only from each other (each constant in itself) have no spread to divide by.
    suggested = softmax_targets(scores, starts, sizes, spread / TARGET_SPREAD if spread > 0 else 1.0)
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
        **against_labels(scores, labels, starts, sizes),
        targets=targets,
        suggested=suggested,
        warning=warning_about(targets, suggested.temperature, float(sizes.mean())),
    )


def flat_columns(lists: RankingLists) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Known scores [n] and their labels [n] (float64), sizes of the lists that have any, number of unknown ones."""
    if "teacher_scores" not in lists.rows.column_names:
        raise InputError("the lists have no teacher scores; expected a teacher, or data that brings scores")
    scores, labels, sizes, unknown = [], [], [], 0
    for rows in lists.rows.iter(1_000):
        for query, *columns in zip(rows["query_id"], rows["teacher_scores"], rows["labels"], strict=True):
            row_scores, row_labels = (np.asarray(column, dtype=np.float64) for column in columns)
            if np.isinf(row_scores).any():
                raise InputError(f"query {query!r}: teacher scores are not finite: {columns[0]}")
            known = ~np.isnan(row_scores)
            unknown += int((~known).sum())
            if known.any():
                scores.append(row_scores[known])
                labels.append(row_labels[known])
                sizes.append(np.count_nonzero(known))
    if not scores:
        raise InputError(f"the lists hold no document with a teacher score to calibrate on ({unknown:,} without)")
    return np.concatenate(scores), np.concatenate(labels), np.asarray(sizes), unknown


def softmax_targets(scores: np.ndarray, starts: np.ndarray, sizes: np.ndarray, temperature: float) -> Targets:
    """Softmax over each list; lists start at `starts` and hold `sizes` scores."""
    best = np.maximum.reduceat(scores, starts)
    shifted = (scores - np.repeat(best, sizes)) / temperature
    normaliser = np.log(np.add.reduceat(np.exp(shifted), starts))
    logarithms = shifted - np.repeat(normaliser, sizes)
    entropy = -np.add.reduceat(np.exp(logarithms) * logarithms, starts)
    return Targets(temperature, float(np.exp(-normaliser).mean()), float(np.exp(entropy).mean()))


def against_labels(scores: np.ndarray, labels: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> dict:
    """Positives against negatives, over the queries that have both. Equal scores do not put a positive on top."""
    positive = labels > 0
    best_positive = np.maximum.reduceat(np.where(positive, scores, -np.inf), starts)
    best_negative = np.maximum.reduceat(np.where(positive, -np.inf, scores), starts)
    both = np.isfinite(best_positive) & np.isfinite(best_negative)
    if not both.any():
        return dict.fromkeys(("positive_mean", "negative_mean", "mean_margin", "top_is_positive"))
    kept = np.repeat(both, sizes)
    counts = np.add.reduceat(positive.astype(np.float64), starts)
    positive_means = np.add.reduceat(np.where(positive, scores, 0), starts)[both] / counts[both]
    negative_means = np.add.reduceat(np.where(positive, 0, scores), starts)[both] / (sizes - counts)[both]
    return {
        "positive_mean": float(scores[positive & kept].mean()),
        "negative_mean": float(scores[~positive & kept].mean()),
        "mean_margin": float((positive_means - negative_means).mean()),
        "top_is_positive": float((best_positive > best_negative)[both].mean()),
    }


def warning_about(targets: Targets, suggested: float, size: float) -> str | None:
    """Why temperature 1 would not do; None when it would."""
    documents = targets.effective_documents
    if documents > FLAT_SHARE * size:
        kind = f"nearly flat: spread over {documents:.2f} of {size:.1f} documents"
    elif documents < ONE_HOT_DOCUMENTS:
        kind = f"nearly one-hot: spread over {documents:.2f} documents, the best has {targets.top_probability:.3f}"
    else:
        return None
    return f"softmax targets at temperature 1 are {kind}; try teacher_temperature {suggested:.3g}"
