import re

import jinja2
import pytest
from huggingface_hub import ModelCard

from m3se.hub_cards.card import duration, render_card, render_collection


LENGTHS = {"query_length": 30, "document_length": 200}
COLBERT = {
    "normalize": True,
    "reduction": "mean",
    "mask_augmentation": "fill",
    "mask_tokens": 0,
    "attend_to_mask": False,
    "skiplist_ids": [7],
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "scale": 1.0,
}
DUAL_ENCODER = {"pooling": "mean", "projection_size": None, "normalize": False, "scale": 1.0}
FIELDS = {"dual_encoder": DUAL_ENCODER, "cross_encoder": {}, "colbert": COLBERT}
REQUIRED = {
    "kind": "dual_encoder",
    "custom_code": False,
    "name": "de-tiny",
    "load_id": "org/de-tiny",
    "fields": LENGTHS | FIELDS["dual_encoder"],
    "architecture": {"backbone": "bert", "layers": 3, "parameters": 1234567, "width": 384},
    "example": {"query": 'who said "hello"', "documents": ["A greeting.", "A farewell."], "scores": [2.345, -1.0]},
}
METRICS = {"MRR@10": 0.31459, "nDCG@10": 0.4, "queries": 6980, "ties": 3, "candidate_recall": 0.812}
TRAINED = {
    "loss": "m3se",
    "loss_args": {"hinge_power": 2},
    "teacher": "org/ca-tiny",
    "data": {"name": "pydocs", "queries": 12000, "documents": 18000, "documents_per_query": 8},
    "hyperparameters": {"learning_rate": 2.8e-05, "max_steps": 500},
    "recipe": "de_m3se.yaml",
    "seed": 3,
    "versions": {"torch": "2.13.0", "m3se": "0.1.0"},
    "hardware": "x86_64 CPU, 2 threads",
    "seconds": 412.3,
    "curve": [
        {"step": 100, "dev nDCG@10": 0.41234, "train nDCG@10": 0.5},
        {"step": 200, "dev nDCG@10": 0.45, "train nDCG@10": 0.6},
    ],
}


def render(kind="dual_encoder", **values):
    return render_card(**REQUIRED | {"kind": kind, "fields": LENGTHS | FIELDS[kind]} | values)


def test_a_model_that_was_never_evaluated_has_a_card_without_results():
    text = render()
    assert ModelCard(text).data.eval_results is None
    for heading in ("## Results", "## Training", "### Beside the paper"):
        assert heading not in text
    assert "None" not in text.replace("[..., None]", "") and "needed" not in text


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_missing_value_is_an_error_that_names_it(missing):
    values = {name: value for name, value in REQUIRED.items() if name != missing}
    for given in (values, values | {missing: None}):
        with pytest.raises(ValueError, match=f"a card needs {missing}"):
            render_card(**given)


@pytest.mark.parametrize("name", ["architecture", "example", "fields"])
def test_a_missing_part_of_a_value_is_an_error_too(name):
    for part in REQUIRED[name]:
        with pytest.raises(jinja2.UndefinedError, match=part):
            render(**{name: {key: value for key, value in REQUIRED[name].items() if key != part}})


@pytest.mark.parametrize(
    ("kind", "custom_code", "library", "task", "tags"),
    [
        ("dual_encoder", False, "sentence-transformers", "sentence-similarity", {"sentence-transformers", "dense"}),
        ("dual_encoder", True, "transformers", "sentence-similarity", {"dense"}),
        ("cross_encoder", False, "sentence-transformers", "text-ranking", {"cross-encoder", "reranker"}),
        ("colbert", False, "sentence-transformers", "feature-extraction", {"ColBERT", "PyLate", "multi-vector"}),
        ("colbert", True, "transformers", "feature-extraction", {"ColBERT"}),
    ],
)
def test_metadata_says_what_kind_of_model_it_is(kind, custom_code, library, task, tags):
    given = {"base_model": "org/bert", "license": "mit", "language": "en", "datasets": ["org/d"], "loss": "m3se"}
    text = render(kind, custom_code=custom_code, custom_code_reason="it is odd", teacher="org/ca", **given)
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag) == (library, task)
    assert tags | {"m3se", "distillation", "loss:m3se"} <= set(data.tags)
    assert (data.base_model, data.base_model_relation) == ("org/bert", "finetune")
    assert (data.license, data.language, data.datasets) == ("mit", "en", ["org/d"])
    assert ("sentence-transformers" in data.tags) != custom_code
    assert ("trust_remote_code=True" in text) == custom_code


def test_results_are_stated_with_their_circumstances_and_reach_the_model_index():
    text = render(metrics=METRICS, dataset="ms_marco", split="dev", seed=7, significance="Better than BM25.")
    assert "| MRR@10 | nDCG@10 |\n|---|---|\n| 0.315 | 0.400 |\n" in text
    assert "Measured on ms_marco, dev: 6,980 queries, seed 7." in text
    assert "hold 81.2% of the relevant documents" in text
    assert "3 documents shared their score" in text
    assert "\nBetter than BM25.\n" in text
    results = ModelCard(text).data.eval_results
    assert [(r.metric_name, r.metric_value, r.dataset_name, r.dataset_split) for r in results] == [
        ("MRR@10", 0.31459, "ms_marco", "dev"),
        ("nDCG@10", 0.4, "ms_marco", "dev"),
    ]


def test_a_table_of_all_systems_takes_the_place_of_one_models_row():
    text = render(metrics=METRICS, dataset="x", table="| model | MRR@10 |\n|---|---|\n| BM25 | 0.2 |\n\nOn x.")
    assert "| BM25 | 0.2 |\n\nOn x.\n" in text
    assert "| 0.315 |" not in text
    assert ModelCard(text).data.eval_results[0].metric_value == 0.31459


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.3", True])
def test_a_measure_that_is_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="MRR@10 must be a finite number"):
        render(metrics={"MRR@10": value}, dataset="x")


def test_the_training_is_told_in_full():
    text = render(**TRAINED)
    assert "The scores of a teacher ([org/ca-tiny](https://huggingface.co/org/ca-tiny)) were distilled" in text
    assert 'loss `m3se` {"hinge_power": 2}.' in text
    for row in (
        "| data | pydocs, 12,000 queries with 8 documents each, from a collection of 18,000 documents |",
        "| recipe | `de_m3se.yaml` |",
        "| learning rate | 2.8e-05 |",
        "| seed | 3 |",
        "| time | 6.9 minutes on x86_64 CPU, 2 threads |",
        "| versions | torch 2.13.0, m3se 0.1.0 |",
        "| step | dev nDCG@10 | train nDCG@10 |\n|---|---|---|\n| 100 | 0.4123 | 0.5000 |\n| 200 | 0.4500 | 0.6000 |",
    ):
        assert row in text
    assert "dataset_size:12000" in ModelCard(text).data.tags
    data = TRAINED["data"] | {"synthetic_queries": 1500}
    made = "18,000 documents; 1,500 queries of the collection were made of its documents |"
    assert made in render(**TRAINED | {"data": data})


def test_the_first_lines_say_what_it_learned_from_and_how_well_it_ranks():
    text = render(**TRAINED, metrics=METRICS, dataset="ms_marco", split="dev")
    first = text.partition("\n# de-tiny\n")[2].partition("\n## ")[0].strip().split("\n\n")
    assert len(first) == 2
    assert first[1] == (
        "Distilled from a teacher with the loss `m3se` of *In defense of dual-encoders for neural ranking* "
        "(Menon et al., 2022), on 12,000 queries of pydocs. On ms_marco, dev: MRR@10 0.315, nDCG@10 0.400."
    )
    assert "- It was trained on texts of pydocs only" in text


@pytest.mark.parametrize(("share", "is_said"), [(0.25, True), (0.0, False)])
def test_a_share_of_the_start_in_the_weights_is_said(share, is_said):
    card = render(loss="m3se", hyperparameters={"start_share": share})
    assert ("Of its weights 25% are those that it started from" in card) == is_said
    assert ("that it started from" in card) == is_said


@pytest.mark.parametrize(("steps", "shown"), [(500, "| max steps | 500 |"), (-1, "| num train epochs | 2.0 |")])
def test_the_length_of_the_training_is_told_by_what_decided_it(steps, shown):
    hyperparameters = {"max_steps": steps, "num_train_epochs": 2.0}
    rows = [line for line in render(loss="m3se", hyperparameters=hyperparameters).splitlines() if "| num " in line]
    rows += [line for line in render(loss="m3se", hyperparameters=hyperparameters).splitlines() if "| max " in line]
    assert rows == [shown]


@pytest.mark.parametrize("left_out", TRAINED)
def test_any_part_of_the_training_may_be_unknown(left_out):
    text = render(**TRAINED | {left_out: None})
    assert ("## Training" in text) == (left_out != "loss")
    assert "None" not in text.replace("[..., None]", "")


def test_the_papers_row_stands_beside_ours():
    paper = {"source": "Table 1", "model": "DE, M3SE", "measures": {"MRR@10": 0.349, "nDCG@10": 0.406}}
    text = render(metrics=METRICS, dataset="ms_marco", paper=paper)
    assert "| | MRR@10 | nDCG@10 |\n|---|---:|---:|\n" in text
    assert "| this model | 0.315 | 0.400 |\n| DE, M3SE (Table 1) | 0.349 | 0.406 |\n" in text


def test_names_from_outside_cannot_become_markup():
    evil = "a|b\n# <script>alert(1)</script> [x](y)"
    text = render(metrics=METRICS, dataset=evil, name=evil, **TRAINED | {"teacher": evil, "data": {"name": evil}})
    body = text.partition("\n---\n")[2]
    assert "<script>" not in body and "\n# <" not in body and "[x](y)" not in body
    assert ModelCard(text).data.eval_results[0].dataset_name == evil
    pictures = [{"file": "images/a.png", "caption": evil}]
    assert "<script>" not in render(pictures=pictures)


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("custom_code", [False, True])
def test_every_snippet_is_python_whatever_the_texts_are(kind, custom_code):
    if kind == "cross_encoder" and custom_code:
        pytest.skip("a cross-encoder is always a stock classifier")
    example = {"query": 'a "quoted" \\ line\nand é', "documents": ["'", '"""'], "scores": [1.0, 2.0]}
    text = render(kind, custom_code=custom_code, custom_code_reason="it is odd", example=example, load_id='o/"x')
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == (2 if custom_code else 4)
    for block in blocks:
        compile(block, "snippet", "exec")


@pytest.mark.parametrize(
    ("seconds", "words"), [(59.4, "59 seconds"), (90, "1.5 minutes"), (3599, "60.0 minutes"), (9000, "2.5 hours")]
)
def test_durations_are_read_easily(seconds, words):
    assert duration(seconds) == words


def test_a_collection_card_has_a_column_for_every_measure():
    rows = [
        {"name": "ca", "id": None, "role": "teacher", "kind": "cross-encoder", "results": {}, "dataset": None},
        {"name": "de", "id": "o/de", "role": "student", "kind": "dense", "results": {"MRR@10": 0.5}, "dataset": "x"},
    ]
    text = render_collection("A study", "What it is.", rows, ["o/data"])
    assert "| model | role | kind | MRR@10 |\n|---|---|---|---:|\n" in text
    assert "| ca | teacher | cross-encoder | – |\n" in text
    assert "| [de](https://huggingface.co/o/de) | student | dense | 0.500 |\n" in text
    assert "Measured on x. " in text
