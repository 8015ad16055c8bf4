"""Hard negatives: documents that a trained retriever ranks high although they are not judged relevant."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from m3se.trainers.data.filters import ScoreFilters
from m3se.trainers.data.schema import positives
from m3se.trainers.errors import InputError


Scores = Mapping[str, Mapping[str, float]]  # query id → document id → score
GUARD = ScoreFilters(margin=0.0)


@dataclass(frozen=True)
class Mined:
    """Negatives by query, hardest first, and counts of the documents that were passed over, by reason.

    `filtered` are the counts of `ScoreFilters.passing`.
    """

    negatives: dict[str, list[str]]
    counts: dict[str, int] = field(default_factory=dict)
    filtered: Counter[str] = field(default_factory=Counter)


def mine_negatives(
    run: Scores,
    qrels: Scores,
    count: int,
    skip: int = 0,
    depth: int | None = None,
    teacher_scores: Scores | None = None,
    filters: ScoreFilters = GUARD,
) -> Mined:
    """Take the `count` best ranked documents of every query in `run` that are not judged relevant.

    Equal scores stay in the order of the run. A query may get fewer than `count`, even none.

    Args:
        run: the ranking to mine.
        qrels: judgments; labels above 0 are relevant.
        count: negatives of a query.
        skip: best ranks to pass over, positives among them included.
        depth: ranks to look at, from the first; None: all.
        teacher_scores: guard against unjudged positives. Documents whose score does not pass `filters` are passed
            over, and so are all when the score of no positive is known.
        filters: bounds on the teacher's score; a margin of 0 by default. Margins say nothing about a query that
            `qrels` do not have.

    Raises:
        InputError: `count` is below 1, `skip` is negative, or `depth` leaves nothing after `skip`.
    """
    if count < 1 or skip < 0 or (depth is not None and depth <= skip):
        raise InputError(
            f"mining: expected count ≥ 1, skip ≥ 0 and depth > skip, got count {count}, skip {skip}, depth {depth}"
        )
    counts: Counter[str] = Counter()
    filtered: Counter[str] = Counter()
    negatives = {}
    for query, scores in run.items():
        relevant = set(positives(qrels.get(query, {})))
        ranked = sorted(scores, key=scores.__getitem__, reverse=True)[skip:depth]
        unjudged = [document for document in ranked if document not in relevant]
        counts["positives_passed_over"] += len(ranked) - len(unjudged)
        if teacher_scores is not None:
            by_teacher = teacher_scores.get(query, {})
            lowest = min(map(by_teacher.__getitem__, relevant & by_teacher.keys()), default=math.nan)
            teacher_values = np.array([by_teacher.get(document, math.nan) for document in unjudged])
            passing = filters.passing(teacher_values, lowest if query in qrels else None, filtered)
            safe = [document for document, passes in zip(unjudged, passing, strict=True) if passes]
            counts["likely_positives_passed_over"] += len(unjudged) - len(safe)
            unjudged = safe
        counts["queries_with_too_few_negatives"] += len(unjudged) < count
        negatives[query] = unjudged[:count]
    return Mined(negatives, dict(+counts), filtered)
