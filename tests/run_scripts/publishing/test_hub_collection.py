import json

import pytest

from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.publishing.hub_collection import make_collection, write_collection_card
from m3se.trainers.errors import InputError
from tests.worlds import tiny


def publish_study(tmp_path):
    """A teacher and a student as published folders, the student measured."""
    results = tmp_path / "metrics.json"
    results.write_text(json.dumps({"MRR@10": 0.5, "nDCG@10": 0.6, "data": "py|docs", "split": "test"}))
    for name, model, metrics in (("ca", tiny.cross_encoder(), None), ("de", tiny.dual_encoder(), results)):
        model.save_pretrained(tmp_path / "trained" / name)
        tiny.tokenizer().save_pretrained(tmp_path / "trained" / name)
        build_folder(tmp_path / "trained" / name, tmp_path / name, metrics=metrics)
    return [tmp_path / "de", tmp_path / "ca"]


def test_a_collection_links_teacher_students_and_data(tmp_path, hub, api):
    members = publish_study(tmp_path)
    card = write_collection_card("A study", members, tmp_path / "study", "org", ["org/pydocs"]).read_text()
    assert "| [de](https://huggingface.co/org/de) | student | dense | 0.500 | 0.600 |" in card
    assert "| [ca](https://huggingface.co/org/ca) | teacher | cross-encoder | – | – |" in card
    assert "[org/pydocs](https://huggingface.co/datasets/org/pydocs)" in card
    assert r"Measured on py\|docs" in card
    for _ in range(2):
        address = make_collection(api, "A study", members, "org", ["org/pydocs"])
    made = hub.collections[address.partition("/collections/")[2]]
    assert [(item["type"], item["id"]) for item in made["items"]] == [
        ("model", "org/ca"),
        ("model", "org/de"),
        ("dataset", "org/pydocs"),
    ]
    assert made["items"][1]["note"]["text"] == "student: dense; MRR@10 0.500, nDCG@10 0.600"


def test_a_collection_needs_members_with_cards(tmp_path):
    with pytest.raises(InputError, match="--members: name the published folders"):
        write_collection_card("A study", [], tmp_path / "study", None, [])
    with pytest.raises(InputError, match="not a published folder"):
        write_collection_card("A study", [tmp_path], tmp_path / "study", None, [])
    assert not (tmp_path / "study").exists()
