import math

import pytest

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.schema import ROW_FEATURES, SCORED_TRAINING_ROW_FEATURES, RankingLists
from m3se.trainers.data.selection import label_best
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows


def make_lists(*rows):
    """Lists of (labels, teacher scores) over documents named by their places."""
    longest = max(len(labels) for labels, _ in rows)
    table = DocumentTable.from_texts([f"d{place}" for place in range(longest)], ["text"] * longest)
    made = []
    for number, (labels, scores) in enumerate(rows):
        ids = [f"d{place}" for place in range(len(labels))]
        row = {"query_id": f"q{number}", "query": "q", "document_ids": ids, "labels": labels, "positive_ids": []}
        made.append(row | {"teacher_scores": scores})
    return RankingLists(write_rows(made, SCORED_TRAINING_ROW_FEATURES), table, {"lists": {"rows": len(made)}})


def test_the_teachers_best_document_becomes_the_positive_of_a_list_without_one():
    lists = make_lists(([0, 0, 0], [1, 5, 5]), ([2, 0], [1, 9]), ([0, 0], [math.nan, -3]), ([0], [math.nan]))
    labelled = label_best(lists)
    assert labelled.rows["labels"][:] == [[0, 1, 0], [2, 0], [0, 1], [0]]
    assert labelled.report["lists"] == {"rows": 4, "pseudo_positives": 2}
    assert labelled.rows.features == lists.rows.features and lists.rows["labels"][0] == [0, 0, 0]
    unscored = RankingLists(write_rows([], ROW_FEATURES), lists.documents)
    with pytest.raises(InputError, match="expected lists with teacher scores"):
        label_best(unscored)
