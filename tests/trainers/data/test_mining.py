import pytest

from m3se.trainers.data.filters import ScoreFilters
from m3se.trainers.data.mining import mine_negatives
from m3se.trainers.errors import InputError


RUN = {"q": {"a": 9.0, "b": 8.0, "c": 7.0, "d": 6.0, "e": 6.0, "f": 5.0}, "r": {"a": 1.0}}
QRELS = {"q": {"b": 1.0, "c": 0.0}, "r": {"a": 1.0}}


def test_the_highest_ranked_documents_that_are_not_positive_are_taken():
    mined = mine_negatives(RUN, QRELS, 3)
    assert mined.negatives == {"q": ["a", "c", "d"], "r": []}
    assert mined.counts == {"positives_passed_over": 2, "queries_with_too_few_negatives": 1}


def test_ranks_outside_the_window_are_not_looked_at():
    assert mine_negatives(RUN, QRELS, 9, skip=2, depth=5).negatives["q"] == ["c", "d", "e"]


def test_the_guard_passes_over_what_the_teacher_takes_for_relevant():
    teacher = {"q": {"a": 4.9, "b": 5.0, "c": 4.0, "d": 3.0, "e": 9.0}}
    mined = mine_negatives(RUN, QRELS, 9, teacher_scores=teacher)
    assert mined.negatives["q"] == ["a", "c", "d"]  # e above the positive, f unknown to the teacher
    assert mined.counts["likely_positives_passed_over"] == 2
    assert mine_negatives(RUN, QRELS, 9, teacher_scores=teacher, filters=ScoreFilters(margin=1.0)).negatives["q"] == [
        "c",
        "d",
    ]


def test_the_lowest_positive_decides_and_an_unscored_one_guards_all():
    qrels = {"q": {"a": 1.0, "b": 1.0}}
    teacher = {"q": {"a": 6.0, "b": 2.0, "c": 3.0, "d": 1.0}}
    assert mine_negatives(RUN, qrels, 9, teacher_scores=teacher).negatives["q"] == ["d"]
    assert mine_negatives(RUN, {"q": {"f": 1.0}}, 9, teacher_scores={"q": {"a": 0.0}}).negatives["q"] == []


@pytest.mark.parametrize(
    "options",
    [{"count": 0}, {"count": 1, "skip": -1}, {"count": 1, "skip": 3, "depth": 3}],
)
def test_options_that_fit_nothing_are_refused(options):
    with pytest.raises(InputError, match="mining: expected count ≥ 1, skip ≥ 0 and depth > skip, got count"):
        mine_negatives(RUN, QRELS, **options)
