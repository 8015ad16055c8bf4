"""Tiny models of random weights, saved as users have them on disk, and a collection of a few words."""

import json
from pathlib import Path

from tokenizers import processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from m3se import ColBERT, ColBERTConfig, DualEncoder, DualEncoderConfig
from tests.worlds import tiny
from tests.worlds.tiny import SPECIAL


TEXT = "the a of matrix vector sum sort list tree graph path node file read write parse date time zone open"
WORDS = TEXT.split()
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


def tokenizer() -> PreTrainedTokenizerFast:
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], SPECIAL, strict=True))
    return tiny.word_tokenizer(SPECIAL + WORDS, processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)), **names)


def bert(seed: int, **fields) -> BertConfig:
    """A BERT of two layers with the dropout and the small random weights of a new model."""
    fields = {"vocab_size": len(SPECIAL) + len(WORDS), "num_hidden_layers": 2, "initializer_range": 0.02} | fields
    return tiny.bert(seed, dropout=0.1, **fields)


def save_dual_encoder(folder: Path, seed: int = 1, **fields) -> str:
    """A dual encoder that mean-pools and keeps 6 query and 10 document tokens."""
    fields = {"pooling": "mean", "query_length": 6, "document_length": 10} | fields
    config = DualEncoderConfig(encoder_config=bert(seed), **fields)
    return saved(DualEncoder(config), folder)


def save_cross_encoder(folder: Path, seed: int = 2) -> str:
    """A stock classifier with one logit."""
    return saved(BertForSequenceClassification(bert(seed, num_labels=1)), folder)


def save_colbert(folder: Path, seed: int = 4) -> str:
    """ColBERT with markers and [MASK] tokens that skips the document token `the`."""
    config = ColBERTConfig(
        encoder_config=bert(seed),
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
    return saved(BertModel(bert(seed)), folder)


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
