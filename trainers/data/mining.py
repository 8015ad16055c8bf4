"""Hard negatives: documents that a trained retriever ranks high although they are not judged relevant."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from m3se.trainers.data.schema import positives
from m3se.trainers.errors import InputError


Scores = Mapping[str, Mapping[str, float]]  # query id → document id → score


@dataclass(frozen=True)
class Mined:
    """Negatives by query, hardest first, and counts of the documents that were passed over, by reason."""

    negatives: dict[str, list[str]]
    counts: dict[str, int] = field(default_factory=dict)


def mine_negatives(
    run: Scores,
    qrels: Scores,
    count: int,
    skip: int = 0,
    depth: int | None = None,
    teacher_scores: Scores | None = None,
    margin: float = 0.0,
) -> Mined:
    """Take the `count` best ranked documents of every query in `run` that are not judged relevant.

    Equal scores stay in the order of the run. A query may get fewer than `count`, even none.

    Args:
        run: the ranking to mine.
        qrels: judgments; labels above 0 are relevant.
        count: negatives of a query.
        skip: best ranks to pass over, positives among them included.
        depth: ranks to look at, from the first; None: all.
        teacher_scores: guard against unjudged positives. A document is passed over when the teacher scores it above
            the query's lowest positive minus `margin`, when its score is not known, and when that of no positive is.
        margin: distance that a negative must keep below the lowest positive.

    Raises:
        InputError: `count` is below 1, `skip` or `margin` is negative, or `depth` leaves nothing after `skip`.
    """
    if count < 1 or skip < 0 or margin < 0 or (depth is not None and depth <= skip):
        raise InputError(
            f"mining: expected count ≥ 1, skip ≥ 0, margin ≥ 0 and depth > skip, got count {count}, skip {skip}, "
            f"margin {margin:g}, depth {depth}"
        )
    counts: Counter[str] = Counter()
    negatives = {}
    for query, scores in run.items():
        relevant = set(positives(qrels.get(query, {})))
        ranked = sorted(scores, key=scores.__getitem__, reverse=True)[skip:depth]
        unjudged = [document for document in ranked if document not in relevant]
        counts["positives_passed_over"] += len(ranked) - len(unjudged)
        if teacher_scores is not None:
            by_teacher = teacher_scores.get(query, {})
            lowest = min(map(by_teacher.__getitem__, relevant & by_teacher.keys()), default=math.nan)
            # NaN, of positives or of a negative without a score, makes this false
            safe = [document for document in unjudged if by_teacher.get(document, math.nan) <= lowest - margin]
            counts["likely_positives_passed_over"] += len(unjudged) - len(safe)
            unjudged = safe
        counts["queries_with_too_few_negatives"] += len(unjudged) < count
        negatives[query] = unjudged[:count]
    return Mined(negatives, dict(+counts))
