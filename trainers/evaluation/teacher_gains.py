"""Agreement with a teacher where nobody judged: nDCG whose gains are the teacher's scores, from 0 to 1 in every list.

It says how well a model reproduces the teacher's order, and nothing about relevance. Reports call it `METRIC`. MRR and
Recall of such gains mean nothing, since almost every document has a gain above 0.
"""

from dataclasses import replace

import numpy as np
import torch

from m3se.trainers.data import RankingLists
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.metrics import ndcg
from m3se.trainers.evaluation.runs import Run


METRIC = "nDCG@{} with the teacher's scores as gains"


def teacher_gains(lists: RankingLists) -> RankingLists:
    """Return the lists with the teacher's scores as labels: (t − min t) / (max t − min t) over a list.

    A document without a known score has gain 0. Lists whose scores are all the same, or unknown, have no order to
    agree with; they are dropped and counted in the report, which names the gains.

    Raises:
        InputError: there are no teacher scores, or no list is left.
    """
    if "teacher_scores" not in lists.rows.column_names:
        raise InputError("agreement with the teacher: expected lists with teacher scores")
    gains, places = [], []
    for place, row_scores in enumerate(lists.rows["teacher_scores"]):
        scores = np.asarray(row_scores, dtype=np.float64)
        numbers = scores[~np.isnan(scores)]
        if len(numbers) > 1 and numbers.min() < numbers.max():
            scaled = (scores - numbers.min()) / (numbers.max() - numbers.min())
            gains.append(np.nan_to_num(scaled, nan=0.0).tolist())
            places.append(place)
    if not places:
        raise InputError(f"agreement with the teacher: none of {len(lists.rows)} lists has two different scores")
    rows = lists.rows.select(places)
    features = rows.features["labels"]
    rows = rows.remove_columns("labels").add_column("labels", gains, feature=features)
    made = {**lists.report.get("lists", {}), "rows": len(rows), "gains": "teacher scores, min-max per list"}
    made["lists_dropped_without_order"] = len(lists.rows) - len(rows)
    return replace(lists, rows=rows, report=lists.report | {"lists": made})


def teacher_ndcg(run: Run, lists: RankingLists, k: int = 10) -> dict[str, float]:
    """Compute, for every query, nDCG@k of a run with the gains of `teacher_gains`: query id → value.

    A document of the run that the list does not have has gain 0, one of the list that the run lacks is not ranked. A
    query that the run lacks gets 0. Ties count against the run.

    Args:
        run: scores by query and document.
        lists: what `teacher_gains` returned.
        k: ranks that count.
    """
    values: dict[str, float] = {}
    for row in lists.rows:
        gains = dict(zip(row["document_ids"], row["labels"], strict=True))
        scores = run.get(row["query_id"], {})
        if not scores:
            values[row["query_id"]] = 0.0
            continue
        ranked = torch.tensor([list(scores.values())], dtype=torch.float64)
        labels = torch.tensor([[gains.get(document, 0.0) for document in scores]])
        ideal = torch.tensor([list(gains.values())])
        values[row["query_id"]] = float(ndcg(ranked, labels, k=k, ideal=ideal))
    return values
