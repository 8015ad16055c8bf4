"""The published form of a model, read back by the readers of the same room."""

import json
import re

import pytest
import torch

from m3se.modeling.publishing import code_files, config_fields, own_weights, reasons_for_code
from m3se.run_scripts.publishing.build import write_layout
from tests.worlds.example_models import CUSTOM, NATIVE, TOKENIZER


@pytest.mark.parametrize("name", NATIVE | CUSTOM)
def test_a_model_comes_back_from_its_published_form(tmp_path, name):
    model = (NATIVE | CUSTOM)[name]()
    write_layout(tmp_path, model, TOKENIZER)
    again = type(model).from_pretrained(tmp_path)
    assert config_fields(again) == config_fields(model)
    assert bool(reasons_for_code(again, TOKENIZER)) == bool(reasons_for_code(model, TOKENIZER)) == (name in CUSTOM)
    if name == "ca-two":  # one logit, the difference, takes the place of two
        expected = model.encoder.classifier.weight[1:] - model.encoder.classifier.weight[:1]
        torch.testing.assert_close(again.encoder.classifier.weight, expected, rtol=0, atol=0)
        return
    torch.testing.assert_close(again.state_dict(), own_weights(model), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["dual_encoder", "colbert"])
def test_the_code_of_a_model_is_complete_and_imports_nothing_of_ours_by_name(kind):
    files = code_files(kind)
    assert files[0].name == f"{kind}.py" and len(files) == len(set(files))
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) m3se", text, flags=re.MULTILINE)
        assert {f"{module}.py" for module in re.findall(r"^from \.(\w+) import", text, flags=re.MULTILINE)} <= {
            path.name for path in files
        }


def test_config_json_of_a_stock_backbone_holds_our_fields_under_one_key(tmp_path):
    model = NATIVE["de-cls"]()
    write_layout(tmp_path, model, TOKENIZER)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["m3se"] == {"model_type": "dual_encoder"} | config_fields(model)
    assert config["model_type"] == "bert" and config["architectures"] == ["BertModel"]
