"""Documents of lists that a teacher has scored: which of them stay, and what its scores say about labels."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from m3se.trainers.data.candidates import query_generator
from m3se.trainers.data.filters import ScoreFilters
from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


Pick = Literal["random", "top", "stratified"]


@dataclass(frozen=True)
class Selection:
    """The documents that long scored lists are cut to.

    Attributes:
        size: K, the documents of a list.
        negatives: "random" and "top" take negatives as `training_lists` does; "stratified" one of each of as many bins
            of equal counts, by teacher score (2604.04734).
        filters: bounds on the scores of negatives.
        seed: of the random draws; a query's depend on its id and `seed` only.
        best_is_positive: in lists without a positive, the best scored document stands for one (see `label_best`).
    """

    size: int
    negatives: Pick = "random"
    filters: ScoreFilters = field(default_factory=ScoreFilters)
    seed: int = 0
    best_is_positive: bool = False


def choose_documents(lists: RankingLists, selection: Selection) -> tuple[RankingLists, Counter[str]]:
    """Cut scored lists to K documents: positives, at most K − 1, then negatives that the filters let pass.

    Returned with the lists are the counts of `ScoreFilters.passing`. "top" goes by the order in which the documents
    stand. In a list without a positive, the best scored document that passes stays when negatives are stratified, and
    when it is to be the positive. Lists that get fewer than K documents stay and are counted; those without a
    negative, or with a single document, are dropped and counted.

    Raises:
        InputError: K is below 2, there is no such choice of negatives, the lists have no teacher scores, or no list is
            left.
    """
    if selection.size < 2 or selection.negatives not in get_args(Pick):
        expected = f"at least 2 documents and one of {', '.join(get_args(Pick))}"
        raise InputError(
            f"documents per query, negatives: expected {expected}, got {selection.size}, {selection.negatives}"
        )
    if "teacher_scores" not in lists.rows.column_names:
        raise InputError("negatives by teacher score: expected lists with teacher scores")
    counts: Counter[str] = Counter()
    filtered: Counter[str] = Counter()
    rows = write_rows(_chosen_rows(lists, selection, counts, filtered), lists.rows.features)
    if len(rows) == 0:
        raise InputError(f"the filters leave none of {len(lists.rows)} lists a negative ({dict(filtered)})")
    made = {**lists.report.get("lists", {}), "rows": len(rows), "documents_per_query": selection.size}
    made |= {"negatives": selection.negatives, "seed": selection.seed, **+counts}
    if selection.filters.bounds():
        bounds = {name: value for name, value in asdict(selection.filters).items() if value is not None}
        made["filters"] = {"bounds": bounds, "dropped": dict(filtered)}
    return replace(lists, rows=rows, report=lists.report | {"lists": made}), filtered


def _chosen_rows(
    lists: RankingLists, selection: Selection, counts: Counter[str], filtered: Counter[str]
) -> Iterator[dict]:
    for row in lists.rows:
        places = chosen_places(row, selection, filtered)
        labels = np.asarray(row["labels"])
        listed = min(np.count_nonzero(labels > 0), selection.size - 1)
        if len(places) < max(2, listed + 1):
            counts["lists_dropped_without_negative"] += 1
            continue
        counts["lists_shorter_than_k"] += len(places) < selection.size
        cut = dict(row)
        for name, values in row.items():
            if name in ("document_ids", "labels") or name.startswith("teacher_scores"):
                cut[name] = [values[place] for place in places]
        if "positive_ids" in row:
            beyond = [row["document_ids"][place] for place in np.flatnonzero(labels > 0) if place not in places]
            cut["positive_ids"] = [*row["positive_ids"], *beyond]
        yield cut


def chosen_places(row: dict, selection: Selection, filtered: Counter[str]) -> list[int]:
    """Return the places of the documents of a list that stay, positives first.

    Args:
        row: the list with its labels and teacher scores.
        selection: which of its documents to take.
        filtered: the counts of the filters.
    """
    scores = np.asarray(row["teacher_scores"], dtype=np.float64)
    is_positive = np.asarray(row["labels"]) > 0
    bound = float(scores[is_positive].min()) if is_positive.any() else None
    if bound is None and selection.best_is_positive and not np.isnan(scores).all():
        is_positive[int(np.nanargmax(scores))] = True
        bound = float(np.nanmax(scores))
    listed = np.flatnonzero(is_positive)[: selection.size - 1].tolist()
    negatives = np.flatnonzero(~is_positive)
    if selection.filters.bounds():
        negatives = negatives[selection.filters.passing(scores[negatives], bound, filtered)]
    if selection.negatives == "stratified" and not listed and len(negatives):
        best = _by_score(scores[negatives])[0]
        listed, negatives = [int(negatives[best])], np.delete(negatives, best)
    count = min(selection.size - len(listed), len(negatives))
    generator = query_generator(row["query_id"], selection.seed)
    if selection.negatives == "top":
        picks = np.arange(count)
    elif selection.negatives == "random":
        picks = generator.choice(len(negatives), count, replace=False)
    else:
        picks = stratified_places(scores[negatives], count, generator)
    return [*listed, *negatives[picks].tolist()]


def stratified_places(scores: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw a place from each of `count` bins of scores [n], n ≥ count, best first: [count] int.

    The bins are quantiles: bin i holds the scores from rank floor(i · n / count) to floor((i + 1) · n / count), so
    that their sizes differ by 1 at most.
    """
    ranked = _by_score(scores)
    edges = np.arange(count + 1) * len(scores) // max(count, 1)
    draws = [generator.integers(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return ranked[np.asarray(draws, dtype=np.int64)]


def _by_score(scores: np.ndarray) -> np.ndarray:
    """Order places by falling score, equal ones as they stand, unknown ones last."""
    return np.lexsort((np.arange(len(scores)), -scores))


def label_best(lists: RankingLists) -> RankingLists:
    """Return the lists with label 1 for the best scored document of every list that has no positive.

    Losses that need a positive then learn from these lists too. Of equal scores the first document is labelled; a list
    without any known score stays as it is. The report counts the labels as `pseudo_positives`.

    Raises:
        InputError: the lists have no teacher scores.
    """
    if "teacher_scores" not in lists.rows.column_names:
        raise InputError("pseudo positives: expected lists with teacher scores, which say the best document")
    count = 0

    def label(row: dict) -> dict:
        """Return the labels of a row, with a positive."""
        nonlocal count
        scores = np.asarray(row["teacher_scores"], dtype=np.float64)
        labels = list(row["labels"])
        if max(labels, default=0) <= 0 and not np.isnan(scores).all():
            labels[int(np.nanargmax(scores))] = 1.0
            count += 1
        return {"labels": labels}

    rows = lists.rows.map(label, keep_in_memory=True, load_from_cache_file=False)
    made = {**lists.report.get("lists", {}), "pseudo_positives": count}
    return replace(lists, rows=rows, report=lists.report | {"lists": made})
