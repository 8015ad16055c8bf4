import math

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.run_metrics import check_measures, evaluate_run


QRELS = {"q1": {"a": 1.0, "b": 0.0}, "q2": {"c": 1.0}}


def test_values_by_hand():
    run = {"q1": {"a": 2.0, "b": 3.0}, "q2": {"c": 1.0, "x": 0.0}}
    evaluation = evaluate_run(run, QRELS)
    assert evaluation.values["MRR@10"] == pytest.approx((1 / 2 + 1) / 2)
    assert evaluation.values["nDCG@10"] == pytest.approx((1 / math.log2(3) + 1) / 2)
    assert evaluation.values["Recall@100"] == 1.0
    assert evaluation.per_query["q1"]["MRR@10"] == 0.5
    assert (evaluation.queries, evaluation.ties) == (2, 0)


@pytest.mark.parametrize("ids", ["abcd", "dcba"])
def test_a_constant_scorer_gets_the_worst_mrr_whatever_the_ids(ids):
    evaluation = evaluate_run({"q": dict.fromkeys(ids, 1.0)}, {"q": {"a": 1.0}})
    assert evaluation.values["MRR@10"] == 0.25
    assert evaluation.values["nDCG@10"] == pytest.approx(1 / math.log2(5))
    assert evaluation.ties == 4


def test_ties_are_counted_by_document_within_a_query():
    run = {"q1": {"a": 2.0, "b": 2.0, "c": 1.0}, "q2": {"c": 2.0}}
    assert evaluate_run(run, QRELS).ties == 2


def test_scores_that_differ_in_the_last_bit_are_no_tie():
    run = {"q1": {"a": 0.1 + 0.2, "b": 0.3}, "q2": {"c": 1.0}}
    evaluation = evaluate_run(run, QRELS)
    assert (evaluation.values["MRR@10"], evaluation.ties) == (1.0, 0)


def test_queries_that_the_run_lacks_or_gets_wrong_stay_in_the_mean():
    run = {"q1": {"a": 1.0}}
    assert evaluate_run(run, QRELS).values["MRR@10"] == 0.5
    assert evaluate_run(run | {"q2": {"unjudged": 1.0}}, QRELS).values["MRR@10"] == 0.5
    assert evaluate_run({}, QRELS).values == {"MRR@10": 0.0, "nDCG@10": 0.0, "Recall@100": 0.0}
    assert evaluate_run(run, QRELS, queries=["q1"]).values["MRR@10"] == 1.0


def test_binary_measures_start_at_the_relevance_level_and_ndcg_is_graded():
    run, qrels = {"q": {"a": 3.0, "b": 2.0}}, {"q": {"a": 1.0, "b": 2.0}}
    assert evaluate_run(run, qrels).values["MRR@10"] == 1.0
    evaluation = evaluate_run(run, qrels, measures=["MRR@10", "nDCG@10", "Recall@1"], relevance_level=2)
    assert evaluation.values["MRR@10"] == 0.5
    assert evaluation.values["Recall@1"] == 0.0
    assert evaluation.values["nDCG@10"] == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))


def test_negative_grades_mean_not_relevant():
    assert evaluate_run({"q": {"spam": 2.0, "a": 1.0}}, {"q": {"spam": -2.0, "a": 1.0}}).values["MRR@10"] == 0.5


@pytest.mark.parametrize(
    ("run", "arguments", "message"),
    [
        ({"q1": {"a": math.nan}}, {}, "query q1: the score of document a is NaN"),
        ({}, {"queries": []}, "no query to evaluate"),
        ({}, {"queries": ["q9"]}, "query q9 has no judgment"),
        ({}, {"measures": ["MRP@10"]}, "unknown measure 'MRP@10'; expected MRR@K, nDCG@K, Recall@K, MAP, P@K or"),
        ({}, {"measures": ["MRR@ten"]}, "unknown measure 'MRR@ten'"),
    ],
)
def test_what_cannot_be_measured_is_named(run, arguments, message):
    with pytest.raises(InputError, match=message):
        evaluate_run(run, QRELS, **arguments)


def test_a_grade_between_whole_numbers_is_refused():
    with pytest.raises(InputError, match="the grade of document a is 0.5"):
        evaluate_run({}, {"q": {"a": 0.5}})


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_agrees_with_ir_measures_on_tie_free_runs(data):
    documents = [f"d{i}" for i in range(15)]
    run, qrels = {}, {}
    for query in ("q1", "q2", "q3"):
        # exact in float32, which trec_eval reads scores into
        scores = data.draw(st.lists(st.integers(-500, 500), min_size=15, max_size=15, unique=True))
        run[query] = {document: score / 8 for document, score in zip(documents, scores, strict=True)}
        qrels[query] = {d: data.draw(st.integers(0, 2)) for d in documents[::2]}
    names = {"MRR@10": "RR@10", "nDCG@10": "nDCG@10", "Recall@5": "R@5"}
    evaluation = evaluate_run(run, qrels, measures=list(names))
    for ours, theirs in names.items():
        expected = ir_measures.calc_aggregate([ir_measures.parse_measure(theirs)], qrels, run)
        assert evaluation.values[ours] == pytest.approx(next(iter(expected.values())))


def test_every_measure_of_ir_measures_is_known_and_spelled_as_the_field_does():
    run, qrels = {"q one": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q one": {"a": 0, "b": 1, "c": 2, "d": 1}}
    names = ["RR@10", "AP", "MAP@2", "P@2", "R@2", "Success@1", "Rprec", "ERR@20", "RR(rel=2)@10"]
    values = evaluate_run(run, qrels, measures=names).values
    expected = {"MRR@10": 1 / 2, "MAP": (1 / 2 + 2 / 3) / 3, "MAP@2": 1 / 6, "P@2": 1 / 2, "Recall@2": 1 / 3}
    expected |= {"Success@1": 0.0, "Rprec": 2 / 3, "MRR(rel=2)@10": 1 / 3}
    err = values.pop("ERR@20")  # gains (2^grade − 1) / 16: 0, 1/16, 3/16
    assert err == pytest.approx(1 / 16 / 2 + 15 / 16 * 3 / 16 / 3, abs=1e-5)
    assert values == pytest.approx(expected)
    strict = evaluate_run(run, qrels, measures=["P@2", "MAP", "MRR(rel=1)@10"], relevance_level=2).values
    assert strict == pytest.approx({"P@2": 0.0, "MAP": 1 / 3, "MRR(rel=1)@10": 1 / 2})


@pytest.mark.parametrize("name", ["Recall", "MRR@0", "MRR@1.5", "SDCG@10"])
def test_a_measure_that_cannot_be_computed_is_refused_before_the_work(name):
    with pytest.raises(InputError, match="unknown measure|cannot be computed here"):
        check_measures([name])
    check_measures(["MRR@10", "nDCG@10", "Recall@100", "MAP", "ERR@20"])
