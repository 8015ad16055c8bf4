"""Cross-encoders of a few thousand weights, tokenisers of a few words, lists of a few documents."""

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from m3se import CrossEncoder, CrossEncoderConfig
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.data.schema import ROW_FEATURES
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds import architectures, tiny
from tests.worlds.architectures import save_encoder


TEXT = "how tall is a giraffe adult giraffes stand five metres the ostrich lays largest eggs of any bird . ,"
WORDS = TEXT.split()
SIZE = tiny.SIZES | {"num_hidden_layers": 2, "initializer_range": 0.5}


def word_tokenizer(**options) -> BertTokenizerFast:
    return tiny.tokenizer(WORDS, pieces=[], **options)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """RoBERTa's kind: byte-level BPE, pairs as `<s> query </s></s> document </s>`."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator([TEXT] * 10, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=40, **names)


def bert_config(seed: int = 0, **fields) -> BertConfig:
    vocabulary = {"vocab_size": len(tiny.SPECIAL) + len(WORDS), "num_labels": 1}
    return tiny.bert(seed, dropout=0.1, **SIZE | vocabulary | fields)


def save_cross_encoder(folder, seed=0, **fields) -> str:
    """A checkpoint of our own, as the trainer leaves it."""
    fields = {"query_length": 8, "document_length": 20} | fields
    model = CrossEncoder(CrossEncoderConfig(encoder_config=bert_config(seed), **fields))
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return str(folder)


def save_classifier(folder, seed=0, tokenizer=None, **fields) -> str:
    """A stock BERT classifier of pairs."""
    BertForSequenceClassification(bert_config(seed, **fields)).save_pretrained(folder)
    (tokenizer or word_tokenizer()).save_pretrained(folder)
    return str(folder)


def save_roberta(folder, seed=0) -> str:
    torch.manual_seed(seed)
    config = RobertaConfig(vocab_size=300, num_labels=1, max_position_embeddings=42, pad_token_id=1, **SIZE)
    RobertaForSequenceClassification(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def save_decoder(folder, padding_side="left", pad_token="</s>", **fields) -> str:
    """A reranker on a decoder, whose tokenizer pads on the left as decoders' do."""
    save_encoder("qwen3", folder, AutoModelForSequenceClassification, num_labels=1, **fields)
    architectures.word_tokenizer(padding_side=padding_side, pad_token=pad_token).save_pretrained(folder)
    return str(folder)


def float32(folder, **lengths) -> PairScorer:
    """The teacher in a folder, computed in float32."""
    return PairScorer.from_pretrained(folder, dtype="float32", **lengths)


def random_text(generator: random.Random, longest: int) -> str:
    return " ".join(generator.choices(WORDS, k=generator.randint(1, longest)))


def random_pairs(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Queries and documents, some beyond every length limit; the documents all differ."""
    generator = random.Random(seed)
    queries = [random_text(generator, 12) for _ in range(count)]
    return queries, [f"{random_text(generator, 50)} {number}" for number in range(count)]


def tiny_lists(queries: int = 6, documents: int = 5, seed: int = 0) -> RankingLists:
    """Ragged lists over one table; the first document of every list is the positive."""
    generator = random.Random(seed)
    table = {f"d{number}": f"{random_text(generator, 30)} {number}" for number in range(queries * documents)}
    rows = []
    for number in range(queries):
        ids = generator.sample(sorted(table), k=documents - number % 3)
        labels = [1.0] + [0.0] * (len(ids) - 1)
        query = f"{random_text(generator, 6)} {number}"
        rows.append({"query_id": f"q{number}", "query": query, "document_ids": ids, "labels": labels})
    return RankingLists(write_rows(rows, ROW_FEATURES), DocumentTable.from_texts(list(table), list(table.values())))
