"""Tiny models of random weights, saved as users have them on disk, and a collection of a few words."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from m3se import ColBERT, ColBERTConfig, DualEncoder, DualEncoderConfig


TEXT = "the a of matrix vector sum sort list tree graph path node file read write parse date time zone open"
WORDS = TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
DOCUMENTS = {
    "d1": "sum of a vector",
    "d2": "sort the list",
    "d3": "path of a node of the graph",
    "d4": "read the file",
    "d5": "parse the date the time the zone",
    "d6": "the matrix",
    "d7": "write list tree graph path node file read write parse date time zone open",
}
QUERIES = {"q1": "vector sum", "q2": "read file", "q3": "sort"}
QRELS = {"q1": {"d1": 1.0}, "q2": {"d4": 2.0, "d7": 1.0}, "q3": {"d2": 1.0}}
BERT = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)


def save_dual_encoder(folder: Path, seed: int = 1) -> str:
    """A dual encoder that mean-pools and keeps 6 query and 10 document tokens."""
    torch.manual_seed(seed)
    config = DualEncoderConfig(encoder_config=BertConfig(**BERT), pooling="mean", query_length=6, document_length=10)
    return saved(DualEncoder(config), folder)


def save_cross_encoder(folder: Path, seed: int = 2) -> str:
    """A stock classifier with one logit."""
    torch.manual_seed(seed)
    return saved(BertForSequenceClassification(BertConfig(**BERT, num_labels=1)), folder)


def save_colbert(folder: Path, seed: int = 4) -> str:
    """ColBERT with markers and [MASK] tokens that skips the document token `the`."""
    torch.manual_seed(seed)
    config = ColBERTConfig(
        encoder_config=BertConfig(**BERT),
        projection_size=8,
        query_length=7,
        document_length=10,
        query_marker_id=len(SPECIAL) + 2,
        document_marker_id=len(SPECIAL) + 3,
        mask_token_id=SPECIAL.index("[MASK]"),
        skiplist_ids=[len(SPECIAL)],
    )
    return saved(ColBERT(config), folder)


def save_bare_encoder(folder: Path, seed: int = 3) -> str:
    torch.manual_seed(seed)
    return saved(BertModel(BertConfig(**BERT)), folder)


def saved(model, folder: Path) -> str:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def write_beir(folder: Path, split: str = "test") -> str:
    """DOCUMENTS, QUERIES and QRELS as a BEIR folder."""
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": name, "title": "", "text": text} for name, text in DOCUMENTS.items()]
    queries = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [f"{query}\t{name}\t{label:.0f}\n" for query, judged in QRELS.items() for name, label in judged.items()]
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
    return str(folder)
