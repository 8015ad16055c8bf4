import pytest

from m3se.trainers.data import RandomCandidates, lists_relevant_from, mine_negatives, relevant_from, training_lists
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError


@pytest.fixture
def collection():
    """Judged as ANTIQUE is: grades 1 and 2 are not relevant."""
    documents = DocumentTable.from_texts([f"d{i}" for i in range(6)], [f"text {i}" for i in range(6)])
    qrels = {"a": {"d0": 4.0, "d1": 1.0, "d2": 3.0}, "b": {"d3": 2.0}}
    return Collection("antique", documents, {"a": "one", "b": "two"}, qrels)


def test_documents_below_the_level_are_negatives_of_lists_and_of_mining(collection):
    graded = relevant_from(collection, 3)
    assert graded.qrels == {"a": {"d0": 4.0, "d1": 0.0, "d2": 3.0}, "b": {"d3": 0.0}}
    assert graded.report == {"relevance_level": 3} and collection.qrels["a"]["d1"] == 1.0
    lists = training_lists(graded, RandomCandidates(), 6, depth=6)
    labels = dict(zip(lists.rows[0]["document_ids"], lists.rows[0]["labels"], strict=True))
    assert labels == {"d0": 4, "d2": 3, "d1": 0, "d3": 0, "d4": 0, "d5": 0}
    assert lists.report["lists"]["queries_dropped_without_positive"] == 1
    assert mine_negatives({"a": {"d0": 3.0, "d1": 2.0}}, graded.qrels, 1).negatives == {"a": ["d1"]}


def test_level_1_changes_nothing_also_not_labels_below_1(collection):
    assert relevant_from(collection, 1) is collection
    lists = training_lists(collection, RandomCandidates(), 6, depth=6)
    assert lists_relevant_from(lists, 1) is lists


def test_the_labels_of_lists_that_were_made_before_follow_the_level(collection):
    lists = training_lists(collection, RandomCandidates(), 6, depth=6)
    assert sorted(lists.rows[0]["labels"]) == [0, 0, 0, 1, 3, 4]
    graded = lists_relevant_from(lists, 3)
    assert sorted(graded.rows[0]["labels"]) == [0, 0, 0, 0, 3, 4] and graded.rows.features == lists.rows.features
    with pytest.raises(InputError, match="no document of the lists has a label of 5 or more"):
        lists_relevant_from(lists, 5)


def test_a_level_that_no_document_has_is_refused(collection):
    with pytest.raises(InputError, match="antique: no document has a grade of 5 or more .* the highest is 4"):
        relevant_from(collection, 5)
