"""Hard negatives: what a trained retriever ranks high although it is not judged relevant."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from m3se.trainers.errors import InputError


Scores = Mapping[str, Mapping[str, float]]  # query id → document id → score


@dataclass(frozen=True)
class Mined:
    """Negatives by query, hardest first, and what was passed over by reason."""

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
    """The `count` best ranked documents of every query in `run` that are not judged relevant.

    The first `skip` ranks are passed over and ranks beyond `depth` not looked at (both count positives too). With
    `teacher_scores` a document is taken for an unjudged positive, and passed over, when the teacher scores it above
    the query's lowest positive minus `margin`; so it is when its teacher score is unknown, and for a query none of
    whose positives has one. Equal scores stay in the order of the run. A query may get fewer than `count`, even none.

    Raises InputError when `count` is below 1, `skip` or `margin` is negative, or `depth` leaves nothing after `skip`.
    """
    if count < 1 or skip < 0 or margin < 0 or (depth is not None and depth <= skip):
        raise InputError(
            f"mining: expected count ≥ 1, skip ≥ 0, margin ≥ 0 and depth > skip, got count {count}, skip {skip}, "
            f"margin {margin:g}, depth {depth}"
        )
    counts: Counter[str] = Counter()
    negatives = {}
    for query, scores in run.items():
        positives = {document for document, label in qrels.get(query, {}).items() if label > 0}
        ranked = sorted(scores, key=scores.__getitem__, reverse=True)[skip:depth]
        others = [document for document in ranked if document not in positives]
        counts["positives_passed_over"] += len(ranked) - len(others)
        if teacher_scores is not None:
            known = teacher_scores.get(query, {})
            safe = [document for document in others if _is_safe(document, positives, known, margin)]
            counts["likely_positives_passed_over"] += len(others) - len(safe)
            others = safe
        counts["queries_with_too_few_negatives"] += len(others) < count
        negatives[query] = others[:count]
    return Mined(negatives, {reason: number for reason, number in counts.items() if number})


def _is_safe(document: str, positives: set[str], teacher_scores: Mapping[str, float], margin: float) -> bool:
    known = [teacher_scores[positive] for positive in positives if positive in teacher_scores]
    return bool(known) and document in teacher_scores and teacher_scores[document] <= min(known) - margin
