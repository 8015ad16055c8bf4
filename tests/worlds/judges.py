"""Tiny language models of random weights, and a tokenizer that knows the words of the built-in prompts."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from m3se.trainers.teacher.templates import BUILT_IN
from tests.worlds.tiny import TEXT


SPECIAL = ["<bos>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DECODER |= {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 1024}
FIELDS = {
    "qwen3": DECODER,
    "qwen2": DECODER,
    "gemma": DECODER,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 2},
}


def tokenizer(first: str | None = None, last: str | None = None, **options) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which `yes`, `no`, `Yes`, `1`, `0`, `true` and `false` are tokens.

    Args:
        first, last: special tokens before and after a text, as a Gemma's and a T5's tokenizer put them.
        options: those of `PreTrainedTokenizerFast`.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    texts = [TEXT, *(piece for template in BUILT_IN.values() for piece in template.prompt)]
    texts += ["yes\nno\nYes\ntrue\nfalse\n"] * 50
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    pieces = " ".join(filter(None, [first, "$A", last]))
    ids = [(token, backend.token_to_id(token)) for token in (first, last) if token]
    backend.post_processor = processors.TemplateProcessing(single=pieces, special_tokens=ids)
    names = {"bos_token": "<bos>", "eos_token": "</s>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=1024, **names | options)


def save_judge(folder: Path, kind: str, made: PreTrainedTokenizerFast | None = None, **fields) -> str:
    """Save a language model of architecture `kind`, whose weights are large enough for scores that differ."""
    made = made or tokenizer()
    torch.manual_seed(0)
    special = {"pad_token_id": 2, "eos_token_id": 1, "bos_token_id": 0}
    config = AutoConfig.for_model(kind, vocab_size=len(made), **FIELDS[kind] | special | fields)
    auto_class = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = auto_class.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.3)
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return str(folder)
