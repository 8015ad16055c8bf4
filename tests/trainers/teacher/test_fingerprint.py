"""Fingerprints that caches on disk are found by: fixed values, computed before this module was written."""

from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from m3se.trainers.teacher.fingerprint import (
    classifier_fingerprint,
    config_description,
    embedder_fingerprint,
    tokenizer_description,
)
from tests.worlds import tiny


FIELDS = {"model_type": "linear", "num_labels": 2}
NEUTRAL = {"_name_or_path": "x", "architectures": ["A"], "dtype": "float32", "transformers_version": "5", "m3se": {}}
LENGTHS = {"joined": True, "max_length": 64, "query_length": 8, "document_length": 20}
PARTS = ("post_processor", "pre_tokenizer", "model", "version", "added_tokens", "normalizer", "decoder")


@pytest.fixture
def model():
    linear = torch.nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.arange(6.0).reshape(2, 3))
        linear.bias.copy_(torch.tensor([0.5, -0.5]))
    return linear


@pytest.fixture
def tokenizer():
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "sum": 1, "sort": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


@pytest.fixture
def config():
    return config_description(SimpleNamespace(to_dict=lambda: FIELDS | NEUTRAL | {"sentence_transformers": 1}))


def test_the_config_is_described_without_what_changes_no_score(config):
    assert config == FIELDS


def test_a_field_that_came_later_is_described_only_where_it_changes_scores():
    fields = FIELDS | {"query_prompt": "", "document_prompt": "iron "}
    assert config_description(SimpleNamespace(to_dict=lambda: fields)) == FIELDS | {"document_prompt": "iron "}


def test_a_model_that_does_not_use_a_later_option_is_described_as_before_it():
    plain, cosine = (config_description(tiny.dual_encoder(**fields).config) for fields in ({}, {"normalize": True}))
    assert not {"normalize", "scale", "learn_scale"} & plain.keys()
    assert cosine == plain | {"normalize": True}


def test_a_classifier_has_the_fingerprint_that_its_cached_scores_have(model, tokenizer, config):
    description = [config, tokenizer_description(tokenizer), LENGTHS, "torch.float32"]
    assert classifier_fingerprint(model, *description) == "ea947f09dbb0d673372505faa2d8ae85"


def test_an_embedder_has_the_fingerprint_that_its_cached_embeddings_have(model, tokenizer, config):
    description = [config, tokenizer_description(tokenizer), "torch.bfloat16"]
    assert embedder_fingerprint(model, *description) == "f4522a0c7a44be8a88dfc4206c11f78d"


def test_a_tokenizer_is_described_without_the_settings_of_its_last_call(tokenizer):
    before = tokenizer_description(tokenizer)
    tokenizer.pad_token = "[UNK]"
    tokenizer(["sum sort"], truncation=True, max_length=1, padding="max_length")
    assert set(before) == set(PARTS)
    assert tokenizer_description(tokenizer) == before


@pytest.mark.parametrize("fingerprint", [classifier_fingerprint, embedder_fingerprint])
def test_any_change_of_a_weight_or_the_description_gives_another_fingerprint(model, fingerprint):
    before = fingerprint(model, FIELDS)
    assert fingerprint(model, FIELDS | {"num_labels": 1}) != before
    with torch.no_grad():
        model.bias[0] += 1e-6
    assert fingerprint(model, FIELDS) != before
