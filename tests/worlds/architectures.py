"""Encoders of many architectures with a few thousand random weights, saved with a tokenizer as users have them."""

from pathlib import Path

import torch
from tokenizers import processors
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedTokenizerFast

from tests.worlds import tiny
from tests.worlds.tiny import WORDS


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
POSITIONS = {"max_position_embeddings": 64}
ROBERTA = SIZES | {"max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DECODER = SIZES | POSITIONS | {"num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 2}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "type_vocab_size": 0}
BART = POSITIONS | {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 1}
BART |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
FIELDS = {
    "bert": SIZES | POSITIONS,
    "roberta": ROBERTA,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64} | POSITIONS,
    "mpnet": ROBERTA,
    "electra": SIZES | POSITIONS | {"embedding_size": 16},
    "albert": SIZES | POSITIONS | {"embedding_size": 16},
    "deberta-v2": SIZES | POSITIONS | DEBERTA,
    "modernbert": SIZES | POSITIONS | {"num_hidden_layers": 4, "local_attention": 16, "pad_token_id": 1},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "pad_token_id": 1},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "pad_token_id": 1},
    "qwen3": DECODER,
    "t5": {
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 2,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
}


def word_tokenizer(template: str = "roberta", words: list[str] = (), **options) -> PreTrainedTokenizerFast:
    """Make a tokenizer of whole words, `<s> text </s>`, in which <pad> is token 1; more `words` come last.

    Pairs are `<s> query </s></s> document </s>`, or with the template "bert" `<s> query </s> document </s>`.
    """
    names = {
        "bos": "<s>",
        "pad": "<pad>",
        "eos": "</s>",
        "unk": "<unk>",
        "mask": "<mask>",
        "cls": "<s>",
        "sep": "</s>",
    }
    specials = list(dict.fromkeys(names.values()))
    make_pairs = processors.BertProcessing if template == "bert" else processors.RobertaProcessing
    tokens = {f"{name}_token": token for name, token in names.items()}
    vocabulary = [*specials, "[unused0]", "[unused1]", *WORDS, *words]
    return tiny.word_tokenizer(vocabulary, make_pairs(("</s>", 2), ("<s>", 0)), **tokens | options)


def make_config(kind: str, **fields) -> PreTrainedConfig:
    """Make the config of a tiny model for `word_tokenizer`."""
    return AutoConfig.for_model(kind, vocab_size=len(WORDS) + 7, **FIELDS[kind] | fields)


def save_encoder(kind: str, folder: Path, auto_class=AutoModel, template: str = "roberta", **fields) -> str:
    """Save a model of random weights, large enough for outputs that differ, and its tokenizer.

    Args:
        kind: the architecture, a key of `FIELDS`.
        folder: where both go.
        auto_class: the class of the model, with or without a head.
        template: how the tokenizer makes a pair.
        fields: changes of the config.
    """
    torch.manual_seed(0)
    model = auto_class.from_config(make_config(kind, **fields))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.3)
    model.save_pretrained(folder)
    word_tokenizer(template).save_pretrained(folder)
    return str(folder)
