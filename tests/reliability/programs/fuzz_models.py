"""Encoders and tokenizers that do not fit each other, or that nobody should have saved: refused, or they work."""

import json
from pathlib import Path

import torch
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel, BertTokenizerFast

from m3se import DualEncoder
from m3se.trainers.models.backbones import as_input_errors, check_lengths, encoder_path
from m3se.trainers.models.inspection import inspect_model, load_tokenizer
from m3se.trainers.models.text_inputs import TextInputs
from tests.reliability.programs.fuzz_files import VALUES


WORDS = ["red", "blue", "green", "tree", "river", "stone", "cloud", "fish"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
USUAL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
CAUSAL = USUAL | {"num_key_value_heads": 1, "head_dim": 4}
ARCHITECTURES = {
    "bert": USUAL,
    "roberta": USUAL,
    "electra": USUAL | {"embedding_size": 8},
    "mpnet": USUAL,
    "albert": USUAL | {"embedding_size": 8},
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 8},
    "modernbert": USUAL | {"global_attn_every_n_layers": 2},
    "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2},
    "qwen3": CAUSAL,
    "gemma3_text": CAUSAL,
    "xlnet": {"d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 8},
    "t5": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 2, "num_heads": 2},
}
CHANGES = ["nothing", "nothing", "field", "no field", "vocabulary", "positions", "weights", "tokenizer", "padding"]
LENGTHS = {"query_length": 8, "document_length": 12}


@st.composite
def model_case(draw) -> tuple:
    """Save an untrained encoder with something changed, and start to train a dual encoder from it."""
    kind, change = draw(st.sampled_from(sorted(ARCHITECTURES))), draw(st.sampled_from(CHANGES))
    options = {"pooling": draw(st.sampled_from(["cls", "mean"])), "layers": draw(st.sampled_from([None, 1, 2, 3]))}
    field, value = draw(st.integers(0, 99)), draw(VALUES)
    side = draw(st.sampled_from(["right", "left"]))

    def read(folder: Path) -> None:
        save(folder, kind, change, field, value, side)
        start_training(folder, **options)

    return read, {"query_length, document_length": b""} if change == "positions" else {}, False


def start_training(folder: Path, **options) -> None:
    """Load and inspect an encoder as the training commands do, and check what it makes of texts."""
    tokenizer = load_tokenizer(encoder_path(str(folder)))
    with as_input_errors(str(folder)):
        model = DualEncoder.from_encoder(str(folder), **LENGTHS, **options)
        check_lengths(model)
        inspect_model(model, tokenizer, str(folder))
    check_embeddings(model.eval(), TextInputs(tokenizer, **LENGTHS))


def save(folder: Path, kind: str, change: str, field: int = 0, value: object = None, side: str = "right") -> None:
    """Write a model's folder.

    Args:
        folder: Where.
        kind: One of the architectures.
        change: What is changed of the folder.
        field: Which entry of the config is changed.
        value: What it is then.
        side: Where the tokenizer pads.
    """
    torch.manual_seed(0)
    words = len(VOCABULARY) - (4 if change == "vocabulary" else 0)
    config = AutoConfig.for_model(kind, vocab_size=words, initializer_range=0.5, pad_token_id=0, **ARCHITECTURES[kind])
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: row for row, word in enumerate(VOCABULARY)}, padding_side=side)
    if change == "padding":
        tokenizer.pad_token = None
    if change != "tokenizer":
        tokenizer.save_pretrained(folder)
    if change == "weights":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[: -1 - field])
    if change in ("field", "no field", "positions"):
        change_config(folder / "config.json", change, field, value)


def change_config(path: Path, change: str, field: int, value: object) -> None:
    """Change an entry of a config, drop it, or leave fewer positions than texts have tokens."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    name = sorted(entries)[field % len(entries)]
    if change == "field":
        entries[name] = value
    elif change == "no field":
        del entries[name]
    else:
        entries |= {name: 4 for name in ("max_position_embeddings", "n_positions") if name in entries}
    path.write_text(json.dumps(entries), encoding="utf-8")


@torch.no_grad()
def check_embeddings(model: DualEncoder, inputs: TextInputs) -> None:
    """Assert that different texts differ, and that a text is the same beside a longer one."""
    short, long = "red blue", "green tree river stone cloud fish red"
    together = model.embed(*inputs([short, long], "document"), "document")
    alone = model.embed(*inputs([short], "document"), "document")
    assert together.isfinite().all()
    assert not torch.allclose(together[0], together[1], atol=1e-4)
    torch.testing.assert_close(together[:1], alone, atol=1e-3, rtol=1e-2)
