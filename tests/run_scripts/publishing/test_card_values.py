import json

import pytest

from m3se.run_scripts.publishing.card_values import paper_values, training_values
from m3se.trainers.errors import InputError
from m3se.trainers.run_folder import recipe_name


def test_a_row_of_the_paper_is_named_by_table_row_and_task():
    found = paper_values("table1:M3SE:MSMARCO re-rank")
    assert found == {
        "source": "Table 1, MSMARCO re-rank",
        "model": "M3SE",
        "measures": {"MRR@10": 0.349, "nDCG@10": 0.406},
    }
    assert paper_values("table4:KL")["measures"] == {"MRR@10": 0.273, "nDCG@10": 0.321}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table3:M3SE", "no table 'table3'; expected TABLE:ROW:TASK with one of table1, "),
        ("table1:m3se", "table1 has no row 'm3se', only BM25, "),
        ("table1:M3SE", "table1, M3SE has no numbers for ''; its columns are MSMARCO re-rank MRR@10, "),
        ("table1:MSE:MSMARCO retrieval", "no numbers for 'MSMARCO retrieval'"),  # the paper itself doubts its 0.000
    ],
)
def test_what_the_paper_does_not_have_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        paper_values(text)


def test_the_recipe_of_a_run_is_named_by_folder_and_file(tmp_path):
    recipe = recipe_name(["--recipe", "/home/me/run_scripts/recipes/stages/de_m3se.yaml", "--seed", "1"])
    assert recipe == "stages/de_m3se.yaml"
    assert recipe_name(["--seed", "1"]) is None
    (tmp_path / "training.json").write_text(json.dumps({"loss": "m3se", "recipe": recipe}))
    assert training_values(tmp_path / "training.json")["recipe"] == "stages/de_m3se.yaml"


def test_queries_that_were_made_of_documents_are_known_from_the_training_lists(tmp_path):
    data = {"collection": {"documents": 9, "synthetic_queries": 4, "synthetic_seed": 0}, "lists": {"rows": 5}}
    (tmp_path / "training.json").write_text(json.dumps({"loss": "m3se", "data": data}))
    summary = training_values(tmp_path / "training.json")["data"]
    assert summary == {"queries": 5, "synthetic_queries": 4, "documents": 9}
