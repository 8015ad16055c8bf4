import jinja2
import pytest
from huggingface_hub import ModelCard

from hub_cards.card import render_card


REQUIRED = {
    "kind": "dual_encoder",
    "custom_code": False,
    "name": "de-tiny",
    "load_id": "org/de-tiny",
    "fields": {"pooling": "mean", "query_length": 30, "document_length": 200},
    "architecture": {"backbone": "bert", "layers": 3, "parameters": 1234567, "width": 384},
    "example": {"query": 'who said "hello"', "documents": ["A greeting.", "A farewell."], "scores": [2.345, -1.0]},
}
METRICS = {"MRR@10": 0.31459, "nDCG@10": 0.4, "queries": 6980, "ties": 3, "candidate_recall": 0.812}


def test_a_model_that_was_never_evaluated_has_a_card_without_results():
    text = render_card(**REQUIRED)
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert data.eval_results is None
    assert "## Results" not in text
    assert "## Training" not in text
    assert "None" not in text.replace("[..., None]", "")
    assert "needed" not in text


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_missing_value_is_an_error_that_names_it(missing):
    values = {name: value for name, value in REQUIRED.items() if name != missing}
    with pytest.raises((jinja2.UndefinedError, KeyError), match=missing):
        render_card(**values)


def test_results_are_stated_with_their_circumstances_and_reach_the_model_index():
    text = render_card(**REQUIRED, metrics=METRICS, dataset="ms_marco", split="dev", seed=7)
    assert "| MRR@10 | nDCG@10 |" in text
    assert "| 0.315 | 0.400 |" in text
    assert "Measured on ms_marco, dev: 6,980 queries, seed 7." in text
    assert "hold 81.2% of the relevant documents" in text
    results = ModelCard(text).data.eval_results
    assert [(r.metric_name, r.metric_value, r.dataset_name, r.dataset_split) for r in results] == [
        ("MRR@10", 0.31459, "ms_marco", "dev"),
        ("nDCG@10", 0.4, "ms_marco", "dev"),
    ]


@pytest.mark.parametrize("value", [float("nan"), "0.3", True])
def test_a_measure_that_is_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="MRR@10 must be a finite number"):
        render_card(**REQUIRED, metrics={"MRR@10": value}, dataset="x")


def test_example_texts_are_quoted_for_python():
    assert r'model.encode_query(["who said \"hello\""])' in render_card(**REQUIRED)
