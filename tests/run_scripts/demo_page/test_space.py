"""The page of a Space, on texts that a visitor brings."""

import pytest

from m3se.run_scripts.demo_page.space import LONGEST_TEXT, MOST_TEXTS, answer_from_texts
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.loading import load_scorer


LINES = "sum of a vector\n\n  sort the list  \npath of a node\n"
TEXTS = ["sum of a vector", "sort the list", "path of a node"]


@pytest.mark.parametrize("kind", ["student", "colbert", "teacher"])
def test_lines_are_ranked_as_the_model_scores_them(world, kind):
    scorer = load_scorer(world[kind], "float32")
    answer = answer_from_texts(scorer, kind, "sort a list", LINES)
    assert [ranking.system for ranking in answer.rankings] == ["BM25", kind]
    assert list(answer.rankings[0].scores) == ["line 2"]
    scores = dict(zip(["line 1", "line 2", "line 3"], scorer.score("sort a list", TEXTS), strict=True))
    ranking = answer.find(kind)
    assert ranking.scores == pytest.approx(scores) and list(ranking.scores) == sorted(scores, key=lambda n: -scores[n])
    assert (len(ranking.meetings) == 3) == (kind == "colbert")
    assert answer.texts["line 2"] == "sort the list"


@pytest.mark.parametrize(
    ("query", "lines", "message"),
    [
        ("sort", " \n", "expected 1 to"),
        ("sort", "a list\n" * (MOST_TEXTS + 1), "expected 1 to"),
        ("sort", "x" * (LONGEST_TEXT + 1), "expected at most"),
        ("x" * (LONGEST_TEXT + 1), "a list", "expected at most"),
        ("", "a list", "query: expected some words"),
        ("sort", "!\n?", "no document has a word"),
    ],
)
def test_what_a_public_page_must_not_compute_is_refused(world, query, lines, message):
    scorer = load_scorer(world["student"], "float32")
    with pytest.raises(InputError, match=message):
        answer_from_texts(scorer, "student", query, lines)
