"""Tiny encoders of the families that people start from, each with the kind of tokenizer that its family has."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, T5EncoderModel

from tests.worlds.tiny import TEXT


SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
POSITIONS = {"max_position_embeddings": 64}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "type_vocab_size": 0}
ROBERTA = SIZES | {"max_position_embeddings": 66, "type_vocab_size": 1}
DECODER = SIZES | POSITIONS | {"num_key_value_heads": 2, "head_dim": 16}
BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_TOKENS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
MARKERS = ["[unused0]", "[unused1]"]
BERT_PAIR = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
ROBERTA_PAIR = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
SPACE = "▁"


def word_piece() -> Tokenizer:
    """Make BERT's tokenizer, untrained."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def byte_pairs() -> Tokenizer:
    """Make GPT-2's tokenizer of bytes, untrained."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def unigrams() -> Tokenizer:
    """Make SentencePiece's unigram tokenizer, untrained."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE)
    backend.decoder = decoders.Metaspace(replacement=SPACE)
    return backend


TRAINERS = {
    word_piece: partial(trainers.WordPieceTrainer, vocab_size=200),
    byte_pairs: partial(trainers.BpeTrainer, vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    unigrams: partial(trainers.UnigramTrainer, vocab_size=80),
}


@dataclass
class Family:
    """An architecture: how its config differs from transformers' own, and how its tokenizer is made.

    Attributes:
        kind: `model_type` of transformers.
        fields: of its config.
        make: makes the untrained tokenizer.
        tokens: special tokens by their role, in the order of their ids.
        templates: post-processing of a text and of a pair; None: no special token is added.
        words: more tokens of the vocabulary.
        model: class of the model.
        pooling: of a dual encoder.
    """

    kind: str
    fields: dict
    make: Callable[[], Tokenizer]
    tokens: dict[str, str]
    templates: tuple[str, str] | None
    words: list[str] = field(default_factory=list)
    model: type = AutoModel
    pooling: str = "mean"


FAMILIES = {
    "BERT": Family("bert", SIZES | POSITIONS, word_piece, BERT_TOKENS, BERT_PAIR, MARKERS),
    "RoBERTa": Family("roberta", ROBERTA, byte_pairs, ROBERTA_TOKENS, ROBERTA_PAIR),
    "XLM-R": Family("xlm-roberta", ROBERTA, unigrams, ROBERTA_TOKENS, ROBERTA_PAIR),
    "DistilBERT": Family(
        "distilbert",
        {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64} | POSITIONS,
        word_piece,
        BERT_TOKENS,
        BERT_PAIR,
        MARKERS,
    ),
    "MPNet": Family(
        "mpnet",
        SIZES | {"max_position_embeddings": 66},
        word_piece,
        ROBERTA_TOKENS | {"unk": "[UNK]"},
        ROBERTA_PAIR,
        MARKERS,
    ),
    "ELECTRA": Family(
        "electra", SIZES | POSITIONS | {"embedding_size": 16}, word_piece, BERT_TOKENS, BERT_PAIR, MARKERS
    ),
    "ALBERT": Family(
        "albert", SIZES | POSITIONS | {"embedding_size": 16}, unigrams, BERT_TOKENS | {"unk": "<unk>"}, BERT_PAIR
    ),
    "DeBERTa-v2": Family("deberta-v2", SIZES | POSITIONS | DEBERTA, unigrams, BERT_TOKENS, BERT_PAIR),
    "ModernBERT": Family(
        "modernbert",
        SIZES | POSITIONS | {"num_hidden_layers": 2, "local_attention": 16},
        byte_pairs,
        BERT_TOKENS,
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]"),
        MARKERS,
    ),
    "T5's encoder": Family(
        "t5",
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2},
        unigrams,
        {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
        ("$A </s>", "$A </s> $B </s>"),
        model=T5EncoderModel,
    ),
    "Qwen3": Family("qwen3", DECODER, byte_pairs, {"pad": "<|endoftext|>", "eos": "<|im_end|>"}, None, pooling="last"),
    "Llama": Family(
        "llama",
        DECODER,
        byte_pairs,
        {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>", "pad": "<|pad|>"},
        ("<|begin_of_text|> $A", "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1"),
        pooling="last",
    ),
}


def make_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """Train a tokenizer of the family's kind on `tiny.TEXT`."""
    backend = family.make()
    specials = [*dict.fromkeys(family.tokens.values()), *family.words]
    options = {"unk_token": family.tokens["unk"]} if family.make is unigrams else {}
    backend.train_from_iterator(
        [TEXT] * 4, TRAINERS[family.make](special_tokens=specials, show_progress=False, **options)
    )
    if family.templates is not None:
        single, pair = family.templates
        ids = [(token, backend.token_to_id(token)) for token in specials]
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    roles = {f"{role}_token": token for role, token in family.tokens.items()}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **roles)
    if "mask" in family.tokens:
        tokenizer.add_special_tokens({"mask_token": AddedToken(family.tokens["mask"], lstrip=True)})
    return tokenizer


def save_family(name: str, folder: Path) -> str:
    """Save a model of random weights, large enough for outputs that differ, and its tokenizer."""
    torch.manual_seed(0)
    family = FAMILIES[name]
    tokenizer = make_tokenizer(family)
    special = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(family.kind, vocab_size=len(tokenizer), **family.fields | special)
    model = family.model(config) if family.model is not AutoModel else AutoModel.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
