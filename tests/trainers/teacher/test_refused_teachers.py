"""Teachers that cannot score or whose lengths do not fit: each is refused by name."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertModel

from m3se.trainers.errors import InputError
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds.architectures import save_encoder
from tests.worlds.teachers import (
    bert_config,
    float32,
    save_classifier,
    save_cross_encoder,
    save_decoder,
    word_tokenizer,
)


def test_a_decoder_without_any_padding_token_is_refused_before_a_pair_is_scored(tmp_path):
    with pytest.raises(InputError, match="no padding token"):
        float32(save_decoder(tmp_path, pad_token=None, pad_token_id=None))


def test_a_teacher_that_reads_its_score_from_the_last_position_is_refused(tmp_path):
    folder = save_encoder("xlnet", tmp_path, AutoModelForSequenceClassification, num_labels=1)
    with pytest.raises(InputError, match="takes padding for text"):
        float32(folder)


def test_weights_that_are_no_numbers_are_refused_before_a_pair_is_scored(tmp_path):
    folder = save_classifier(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.nn.init.constant_(model.classifier.weight, torch.nan)
    model.save_pretrained(folder)
    with pytest.raises(InputError, match="NaN or infinite numbers"):
        float32(folder)


def test_a_teacher_without_its_tokenizer_is_refused(tmp_path):
    folder = save_classifier(tmp_path)
    for path in tmp_path.glob("token*"):
        path.unlink()
    with pytest.raises(InputError, match=r"no words among them|cannot be loaded"):
        float32(folder)


@pytest.mark.parametrize(
    "lengths, message",
    [
        ({"query_length": 2}, "more than the 2 special tokens"),
        ({"document_length": 0}, "more than the 2 special tokens"),
        ({"query_length": 30, "document_length": 36}, "exceed the 64 positions"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(tmp_path, lengths, message):
    with pytest.raises(InputError, match=message):
        float32(save_cross_encoder(tmp_path), **lengths)


def test_three_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match="1 logit, or 2.*it has 3"):
        float32(save_classifier(tmp_path, num_labels=3))


def test_a_bare_encoder_is_refused_because_its_head_would_be_random(tmp_path):
    BertModel(bert_config()).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="lacks 2 weights, classifier.bias"):
        float32(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}.*config.json"):
        float32(tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        float32(tmp_path / "nowhere")


def test_a_number_format_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="float32 or bfloat16, got 'int4'"):
        PairScorer.from_pretrained(tmp_path, dtype="int4")


@pytest.mark.parametrize("save", [save_cross_encoder, save_classifier])
def test_pickled_weights_are_never_loaded(tmp_path, save):
    folder = save(tmp_path)
    weights = AutoModelForSequenceClassification.from_pretrained(save_classifier(tmp_path / "other")).state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="safetensors"):
        float32(folder)


@pytest.mark.parametrize("save", [save_cross_encoder, save_classifier])
def test_truncated_weights_are_refused(tmp_path, save):
    folder = save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"teacher {tmp_path}"):
        float32(folder)
