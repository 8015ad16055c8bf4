import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.filters import ScoreFilters
from m3se.trainers.data.schema import ROW_FEATURES, SCORED_TRAINING_ROW_FEATURES, RankingLists
from m3se.trainers.data.selection import Selection, choose_documents, chosen_places, label_best, stratified_places
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


SCORES = [4.0, 9.0, 3.0, -1.0, 2.0, 5.0, 1.0, 0.0]  # of d0, the positive, and of seven negatives by rank


def chosen(selection, labels=(1, 0, 0, 0, 0, 0, 0, 0), scores=SCORES):
    lists, filtered = choose_documents(make_lists((list(labels), scores)), selection)
    return lists.rows[0], dict(filtered), lists.report["lists"]


def test_one_negative_is_drawn_from_each_quantile_of_the_teachers_scores():
    # by score: d1 9, d5 5 | d2 3, d4 2 | d6 1, d7 0, d3 -1
    bins = [{"d1", "d5"}, {"d2", "d4"}, {"d6", "d7", "d3"}]
    drawn = set()
    for seed in range(30):
        row, _, report = chosen(Selection(4, "stratified", seed=seed))
        first, *negatives = row["document_ids"]
        assert first == "d0" and all(name in bin_ for name, bin_ in zip(negatives, bins, strict=True))
        assert row["teacher_scores"] == [SCORES[int(name[1:])] for name in row["document_ids"]]
        drawn |= set(negatives)
    assert drawn == set.union(*bins)
    assert (report["negatives"], report["documents_per_query"], report["rows"]) == ("stratified", 4, 1)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.data(), st.integers(0, 99))
def test_strata_cover_every_quantile_once_best_first(scores, data, seed):
    count = data.draw(st.integers(1, len(scores)))
    places = stratified_places(np.array(scores, float), count, np.random.default_rng(seed))
    ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    ranks = [ranked.index(place) for place in places]
    for number, rank in enumerate(ranks):
        assert number * len(scores) // count <= rank < (number + 1) * len(scores) // count
    again = stratified_places(np.array(scores, float), count, np.random.default_rng(seed))
    assert places.tolist() == again.tolist() and len(set(ranks)) == count


def test_a_draw_depends_on_the_query_and_the_seed_alone():
    rows = [([0, 0, 0, 0, 0, 0, 0, 0], SCORES)] * 2
    both, _ = choose_documents(make_lists(*rows), Selection(3, "random", seed=1))
    alone, _ = choose_documents(make_lists(rows[0]), Selection(3, "random", seed=1))
    assert both.rows["document_ids"][0] == alone.rows["document_ids"][0]
    draws = {tuple(chosen(Selection(3, "random", seed=seed))[0]["document_ids"]) for seed in range(9)}
    assert len(draws) > 3


def test_without_a_positive_the_best_document_stays_and_is_labelled_if_that_is_allowed():
    row, _, _ = chosen(Selection(4, "stratified"), labels=[0] * 8)
    assert row["document_ids"][0] == "d1" and len(row["document_ids"]) == 4 and row["labels"] == [0] * 4
    pseudo, _, _ = chosen(Selection(4, "stratified", best_is_positive=True), labels=[0] * 8)
    assert pseudo == row  # only the label differs, which label_best writes
    near = Selection(3, "top", ScoreFilters(margin=5.0), best_is_positive=True)
    assert chosen(near, labels=[0] * 8)[0]["document_ids"] == ["d1", "d0", "d2"]
    assert chosen(Selection(3, "top", ScoreFilters(margin=5.0)), labels=[0] * 8)[0]["document_ids"] == [
        "d0",
        "d1",
        "d2",
    ]


def test_filters_drop_what_their_bounds_say_one_after_another():
    # p = 4: margin 1 drops 9, 5 (t > 3); relative .5 drops 3 (t > 2); max 1.5 drops 2; min 0 drops -1
    bounds = {"margin": 1.0, "relative_margin": 0.5, "max_score": 1.5, "min_score": 0.0}
    row, filtered, report = chosen(Selection(4, "top", ScoreFilters(**bounds)))
    assert row["document_ids"] == ["d0", "d6", "d7"] and report["lists_shorter_than_k"] == 1
    dropped = {"margin": 2, "relative_margin": 1, "max_score": 1, "min_score": 1, "no teacher score": 0}
    assert filtered == dropped | {"looked at": 7}
    assert report["filters"] == {"bounds": bounds, "dropped": filtered}


@pytest.mark.parametrize(
    ("filters", "positive", "passing"),
    [
        (ScoreFilters(margin=0.0), 2.0, [1, 1, 0, 0]),
        (ScoreFilters(relative_margin=0.25), -4.0, [1, 0, 0, 0]),  # t ≤ −4 − 1, not −4 · .75
        (ScoreFilters(margin=1.0), None, [1, 1, 1, 0]),  # no positive: a margin to nothing
        (ScoreFilters(margin=1.0), math.nan, [0, 0, 0, 0]),
        (ScoreFilters(max_score=2.0, min_score=2.0), None, [0, 1, 0, 0]),
    ],
)
def test_a_margin_is_relative_to_the_size_of_the_positives_score(filters, positive, passing):
    scores = np.array([-5.0, 2.0, 3.0, math.nan])
    assert filters.passing(scores, positive, Counter()).tolist() == list(map(bool, passing))


def test_the_relative_margin_is_that_of_sentence_transformers():
    """The threshold of its mine_hard_negatives, spelt out: removed when t > p - |p| * m."""
    scores = np.linspace(-6, 6, 49)
    for positive in (-3.0, 0.0, 3.0):
        kept = ~(scores > positive - abs(positive) * 0.05)
        assert (ScoreFilters(relative_margin=0.05).passing(scores, positive, Counter()) == kept).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -1.0}, "margin: expected a number, 0 or more, got -1.0"),
        ({"max_score": math.nan}, "max_score: expected a number, got nan"),
        ({"max_score": 1.0, "min_score": 2.0}, "min_score 2 is above max_score 1: no score is left"),
    ],
)
def test_bounds_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ScoreFilters(**options)


def test_lists_that_the_filters_leave_nothing_are_dropped_and_counted():
    lists = make_lists(([1, 0, 0], [5, 9, 9]), ([1, 0, 0], [5, 1, 2]), ([1, 1, 1], [5, 5, 5]))
    chosen_lists, filtered = choose_documents(lists, Selection(3, "top", ScoreFilters(margin=0.0)))
    assert chosen_lists.rows["query_id"][:] == ["q1"] and filtered["margin"] == 2
    assert chosen_lists.report["lists"]["lists_dropped_without_negative"] == 2
    with pytest.raises(InputError, match="the filters leave none of 3 lists a negative"):
        choose_documents(lists, Selection(3, "top", ScoreFilters(margin=99.0)))
    with pytest.raises(InputError, match="one of random, top, stratified, got 3, deep"):
        choose_documents(lists, Selection(3, "deep"))


def test_positives_beyond_k_are_named_and_never_a_negative():
    row = {"query_id": "q", "labels": [1, 2, 1, 0, 0], "teacher_scores": [1, 2, 3, 4, 5]}
    assert chosen_places(row, Selection(3, "top"), Counter()) == [0, 1, 3]
    cut, _, _ = chosen(Selection(3, "top"), [1, 2, 1, 0, 0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert cut["document_ids"] == ["d0", "d1", "d3"] and cut["positive_ids"] == ["d2"]
