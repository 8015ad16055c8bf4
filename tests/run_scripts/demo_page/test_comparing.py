"""Searches side by side, beside the models that they are made of."""

import re

import numpy as np
import pytest

from m3se.run_scripts.demo_page.comparing import best_meetings
from m3se.run_scripts.demo_page.opening import check, open_comparison
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.tokens.meetings import Meeting
from tests.worlds import words as tiny


@pytest.fixture(scope="module")
def comparison(world, arguments):
    models = ["--start", world["start"], "--model", world["student"], world["colbert"]]
    options = arguments(*models, "--teacher", world["teacher"], "--top", 3, "--depth", 4)
    check(options)
    return open_comparison(options)[0]


@pytest.fixture(scope="module")
def answer(comparison):
    return comparison.answer("  Vector   sum ")


def test_every_system_answers_with_the_scores_of_its_model(comparison, answer, world):
    assert [ranking.system for ranking in answer.rankings] == ["BM25", "start", "student", "colbert", "teacher"]
    assert comparison.names() == [ranking.system for ranking in answer.rankings]
    for name in ("start", "student", "colbert"):
        scores = answer.find(name).scores
        texts = comparison.documents.texts(list(scores))
        expected = load_scorer(world[name], "float32").score("Vector sum", texts)
        assert list(scores.values()) == pytest.approx(expected, abs=2e-3)  # ColBERT's tokens are stored as float16
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert list(answer.find("BM25").scores) == ["d1", "d8"]


def test_the_teacher_ranks_the_best_documents_of_all_systems(comparison, answer, world):
    candidates = set()
    for ranking in answer.rankings[:-1]:
        candidates |= set(list(ranking.scores)[:4])
    scores = answer.find("teacher").scores
    assert scores.keys() == candidates
    expected = load_scorer(world["teacher"], "float32").score("Vector sum", comparison.documents.texts(list(scores)))
    assert list(scores.values()) == pytest.approx(expected, rel=1e-5)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)


def test_words_match_by_bm25_and_tokens_by_colbert(answer):
    shared = {"d1": "vector, sum", "d8": "sum"}
    words = {name: shared.get(name, "") for name in answer.texts}
    assert answer.find("BM25").matches == answer.find("start").matches == answer.find("teacher").matches == words
    colbert = answer.find("colbert")
    assert colbert.meetings.keys() == colbert.matches.keys() == answer.texts.keys()
    assert all(re.fullmatch(r"vector→\S+ -?\d\.\d\d, sum→.*|sum→.*", text) for text in colbert.matches.values())


def test_judgments_are_those_of_the_query_with_this_text(comparison, answer):
    assert answer.query == "Vector sum" and answer.grades == tiny.QRELS["q1"]
    assert comparison.answer("vector sums").grades is None


def test_an_empty_query_is_refused(comparison):
    with pytest.raises(InputError, match="query: expected some words"):
        comparison.answer(" \n")


def test_several_teachers_are_averaged_after_they_were_standardised(world, arguments):
    options = ["--start", world["start"], "--model", world["student"], "--teacher", "start", "bm25"]
    comparison, _ = open_comparison(arguments(*options, "--teacher_weights", 3, 1, "--depth", 8))
    scores = comparison.answer("vector sum").find("teacher").scores
    texts, names = comparison.documents.texts(list(scores)), list(scores)
    start = np.array(load_scorer(world["start"], "float32").score("vector sum", texts))
    found = comparison.systems[0].search("vector sum", 8)
    words = np.array([found.get(name, 0.0) for name in names])
    expected = 0.75 * (start - start.mean()) / start.std() + 0.25 * (words - words.mean()) / words.std()
    assert list(scores.values()) == pytest.approx(expected, abs=1e-4)


def test_one_model_alone_and_data_without_judgments_will_do(world, arguments):
    options = arguments("--model", world["student"], "--split", "nowhere")
    comparison, encodings = open_comparison(options)
    answer = comparison.answer("read file")
    assert [ranking.system for ranking in answer.rankings] == ["BM25", "student"] and answer.reference == "BM25"
    assert answer.grades is None and list(encodings) == ["student"]


def test_the_meetings_that_are_named_are_the_highest_of_words():
    meetings = [Meeting("[CLS]", "a", 9.0), Meeting("x", "y", 0.5), Meeting("u", "v", 0.25), Meeting("p", "q", 0.75)]
    assert best_meetings([*meetings, Meeting("r", "s", 0.1)]) == ["p→q 0.75", "x→y 0.50", "u→v 0.25"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "@teacher", "--name", "x"], "which cannot search; make it a --teacher"),
        (["--model", "@student", "@student"], "'student' would stand for two searches"),
        (["--model", "@student", "--name", "a", "b"], "--name: 2 names for 1 models"),
        (["--model", "@student", "--name", "BM25"], "'BM25' would stand for two searches"),
        (["--model", "@student", "--teacher", "start"], "--teacher start: name a model"),
        (["--model", "@student", "--teacher", "start", "--start", "@colbert"], "--teacher start: name a model"),
        (["--model", "@student", "--teacher", __file__], "is a file; expected a model"),
        (["--model", "@student", "--teacher", "bm25", "--teacher_weights", "0"], "expected a number above 0"),
        (["--model", "@student", "--top", "0"], "--top: expected at least 1"),
        (["--model", "@student", "--first_stage", "bm25"], "--first_stage: proposes documents to a ColBERT"),
    ],
)
def test_options_that_fit_nothing_are_refused_before_any_work(world, arguments, words, message):
    with pytest.raises(InputError, match=message):
        check(arguments(*[world[word[1:]] if word.startswith("@") else word for word in words]))
