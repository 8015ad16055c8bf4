"""What is asked of an encoder before training, and what a run remembers of it."""

import json

import pytest
from transformers import DistilBertConfig, MPNetConfig, RobertaConfig

from m3se import DualEncoder, DualEncoderConfig
from m3se.run_scripts.distill import StudentArguments
from m3se.trainers.backbones import set_dropout
from m3se.trainers.errors import InputError
from m3se.trainers.run_folder import encoder_key
from m3se.trainers.teacher.pair_inputs import position_limit
from tests.worlds.small_world import write_encoder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_run_remembers_all_that_its_encoder_is_made_of(tmp_path, name):
    write_encoder(tmp_path)
    before = encoder_key(str(tmp_path))
    assert encoder_key(str(tmp_path)) == before
    content = json.loads((tmp_path / name).read_text(encoding="utf-8"))
    (tmp_path / name).write_text(json.dumps(content | {"added": 1}), encoding="utf-8")
    assert encoder_key(str(tmp_path)) != before


def test_dropout_of_an_encoder_with_other_names_for_it_is_refused():
    config = DistilBertConfig(vocab_size=30, dim=8, hidden_dim=8, n_layers=1, n_heads=2)
    model = DualEncoder(DualEncoderConfig(encoder_config=config.to_dict()))
    set_dropout(model, None)
    with pytest.raises(InputError, match="a distilbert encoder keeps that of its own config"):
        set_dropout(model, 0.1)


@pytest.mark.parametrize("config", [MPNetConfig, RobertaConfig])
def test_positions_of_padding_are_no_room_for_a_text(config):
    assert position_limit(config(max_position_embeddings=20, pad_token_id=1)) == 18


def test_markers_of_colbert_can_be_chosen_on_the_command_line():
    options = StudentArguments("lists", colbert_args='{"markers": null}')
    assert options.colbert_args == {"markers": None}
