"""Documents of lists that a teacher has scored: which of them stay, and what its scores say about labels."""

from dataclasses import replace

import numpy as np

from m3se.trainers.data.schema import RankingLists
from m3se.trainers.errors import InputError


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
