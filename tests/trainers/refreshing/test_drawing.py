"""What a draw of negatives is said to have brought."""

import logging

import pytest
from datasets import Dataset

from m3se.trainers.refreshing.drawing import compare_draws, log_draw


def rows(*negatives: str) -> Dataset:
    """A list for each text, whose letters are its negatives; its positive is the document `+`."""
    lists = []
    for letters in negatives:
        lists.append({"document_ids": ["+", *letters], "labels": [1.0] + [0.0] * len(letters), "positive_ids": ["+"]})
    return Dataset.from_list(lists)


def test_new_and_different_negatives_are_counted():
    found = compare_draws(rows("ab", "cd", "ef"), rows("ax", "xy", "xf"))
    assert found == {"new_negatives": 4 / 6, "distinct_negatives": 4, "distinct_before": 6}


@pytest.mark.parametrize(("distinct", "warns"), [(1500, False), (1499, True)])
def test_documents_that_are_found_for_many_queries_are_warned_of(distinct, warns, caplog):
    report = {"step": 7, "depth": 50, "new_negatives": 0.5, "distinct_negatives": distinct, "distinct_before": 3000}
    with caplog.at_level(logging.INFO):
        log_draw(report)
    assert "step 7: negatives drawn from the best 50 documents; 50% of them are new" in caplog.text
    assert ("the same documents for many queries, 1,499 where there were 3,000" in caplog.text) == warns
    assert (len(caplog.records) == 2) == warns
