import pytest
import yaml

from m3se.hub_cards.results import families, measures, model_index, parse_benchmark, write_eval_results


METRICS = {
    "MRR@10": 0.31459265,
    "nDCG@10": 0.4,
    "Recall@100": 1,
    "queries": 43,
    "ties": 2,
    "documents_per_second": 9.1,
}


def test_measures_are_told_from_what_surrounds_them():
    assert measures(METRICS) == {"MRR@10": 0.31459265, "nDCG@10": 0.4, "Recall@100": 1}


@pytest.mark.parametrize("name", ["AP", "P@5", "P(rel=2)@5", "nDCG@10", "infAP", "IPrec@0.1", "alpha_nDCG@20"])
def test_any_measure_of_ir_measures_is_one(name):
    assert measures({"queries": 3, "candidate_recall": 0.5, name: 0.25}) == {name: 0.25}
    assert families({"queries": 3, "P(rel=2)@5": 0.5, "AP": 0.25, "P@10": 0.5}) == ["ap", "p"]


@pytest.mark.parametrize("metrics", [{}, {"queries": 3}, {"candidate_recall": 0.5, "intervals_95": {}}])
def test_metrics_without_a_measure_are_refused(metrics):
    with pytest.raises(ValueError, match="metrics have no measure such as MRR@10"):
        measures(metrics)


@pytest.mark.parametrize("value", [True, "0.3", float("nan"), float("inf"), None])
def test_a_measure_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="MRR@10 must be a finite number, got"):
        measures({"MRR@10": value})


def test_a_measure_is_an_entry_of_the_model_index():
    entries = model_index(METRICS, "org/data", "test")
    assert [(e.metric_type, e.metric_name, e.metric_value) for e in entries] == [
        ("mrr@10", "MRR@10", 0.314593),
        ("ndcg@10", "nDCG@10", 0.4),
        ("recall@100", "Recall@100", 1.0),
    ]
    assert {(e.task_type, e.dataset_type, e.dataset_split) for e in entries} == {("text-ranking", "org/data", "test")}


def test_a_benchmark_gets_a_file_of_its_own(tmp_path):
    path = write_eval_results(tmp_path, METRICS, parse_benchmark("org/bench:ranking:nDCG@10"))
    assert path == tmp_path / ".eval_results" / "org--bench.yaml"
    assert yaml.safe_load(path.read_text()) == [
        {
            "dataset": {"id": "org/bench", "task_id": "ranking"},
            "value": 0.4,
            "notes": "nDCG@10, 43 queries, 2 ties",
        }
    ]


def test_a_benchmark_that_was_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match="org/bench asks for MRR@100, measured were only"):
        write_eval_results(tmp_path, METRICS, parse_benchmark("org/bench:ranking:MRR@100"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["org/bench", "org/bench:task", "bench:task:MRR@10", "org/bench::MRR@10", "a/b/c:t:m"]
)
def test_a_benchmark_is_named_in_full(text):
    with pytest.raises(ValueError, match="benchmark must be org/dataset:task:measure"):
        parse_benchmark(text)
