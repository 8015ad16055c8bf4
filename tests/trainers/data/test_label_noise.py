"""Labels that are moved on purpose: how many, of which queries, and to where."""

import numpy as np
import pytest

from m3se.trainers.data.label_noise import check_noise, move_labels
from m3se.trainers.errors import InputError
from tests.worlds import tiny


@pytest.fixture(scope="module")
def lists():
    return tiny.ranking_lists(queries=400, scored=False)


def test_a_share_of_the_lists_has_its_label_at_another_document(lists):
    moved = move_labels(lists, 0.25)
    changed = 0
    for before, after in zip(lists.rows, moved.rows, strict=True):
        assert after["document_ids"] == before["document_ids"]
        assert sorted(after["labels"]) == sorted(before["labels"])
        if after["labels"] != before["labels"]:
            changed += 1
            stayed = np.count_nonzero(np.array(after["labels"]) * np.array(before["labels"]))
            assert stayed == max(0, 2 * sum(before["labels"]) - len(before["labels"]))  # where negatives are too few
    assert changed == moved.report["labels_moved"]
    assert changed == pytest.approx(100, abs=26)  # three standard deviations of 400 draws at a quarter
    assert moved.rows.features == lists.rows.features


def test_the_same_queries_are_wrong_in_other_lists_and_at_a_larger_share(lists):
    few, many = move_labels(lists, 0.1), move_labels(lists, 0.3)
    alone = move_labels(lists.first(40), 0.1)
    wrong = []
    for noisy in (few, many, alone):
        queries = zip(noisy.rows["query_id"], noisy.rows["labels"], strict=True)
        truth = dict(zip(lists.rows["query_id"], lists.rows["labels"], strict=True))
        wrong.append({query for query, labels in queries if labels != truth[query]})
    assert wrong[0] < wrong[1]
    assert wrong[2] == wrong[0] & set(alone.rows["query_id"])


def test_labels_stay_as_they_are_without_noise(lists):
    assert move_labels(lists, None) is lists
    assert move_labels(lists, 0.0).rows["labels"][:] == lists.rows["labels"][:]


def test_a_share_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="--label_noise: expected a share from 0 to 1, got 10"):
        check_noise(10)
