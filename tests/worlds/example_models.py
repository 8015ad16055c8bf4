"""Untrained models of every kind that is published, with a tokeniser that knows the words of the cards' example."""

import re
import string

from m3se import ColBERT, ColBERTConfig, CrossEncoder, CrossEncoderConfig, DualEncoder, DualEncoderConfig
from m3se.run_scripts.publishing.build import EXAMPLE_DOCUMENTS, EXAMPLE_QUERY
from tests.worlds import tiny


TEXT = " ".join([EXAMPLE_QUERY, *EXAMPLE_DOCUMENTS]).lower()
PUNCTUATION = list(string.punctuation)
WORDS = [*sorted(set(re.findall(r"[a-z]+", TEXT))), *PUNCTUATION]
TOKENIZER = tiny.tokenizer(WORDS)
KNOWN = TOKENIZER.get_vocab()


def bert(**fields):
    return tiny.bert(vocab_size=len(TOKENIZER), **fields)


def dual_encoder(**fields):
    return DualEncoder(DualEncoderConfig(encoder_config=bert(), **{"pooling": "mean"} | fields))


def cross_encoder(num_labels=1):
    lengths = {"query_length": 20, "document_length": 40}  # together within the encoder's positions
    return CrossEncoder(CrossEncoderConfig(encoder_config=bert(num_labels=num_labels), **lengths))


def colbert(**fields):
    defaults = {
        "projection_size": 8,
        "document_length": 40,  # within the encoder's positions
        "query_marker_id": KNOWN["[unused0]"],
        "document_marker_id": KNOWN["[unused1]"],
        "mask_token_id": KNOWN["[MASK]"],
        "skiplist_ids": sorted(KNOWN[symbol] for symbol in PUNCTUATION),
    }
    return ColBERT(ColBERTConfig(encoder_config=bert(), **defaults | fields))


def learned(model):
    """A model whose scale has moved from where it started."""
    model.score_scale.multiply(1.3)
    return model


NATIVE = {
    "de-mean": lambda: dual_encoder(),
    "de-cls": lambda: dual_encoder(pooling="cls", query_length=20, document_length=11),
    "de-prompts": lambda: dual_encoder(query_prompt="giraffe: ", document_prompt="stand | "),
    "de-cosine": lambda: learned(dual_encoder(pooling="last", projection_size=8, normalize=True, learn_scale=True)),
    "de-projection": lambda: dual_encoder(projection_size=8),
    "ca": lambda: cross_encoder(),
    "ca-two": lambda: cross_encoder(num_labels=2),
    "colbert-mean": lambda: colbert(),
    "colbert-sum": lambda: colbert(reduction="sum", skiplist_ids=[], attend_to_mask=True, document_length=11),
    "colbert-wide": lambda: colbert(projection_size=None, scale=3.0),
    "colbert-prompts": lambda: colbert(query_prompt="giraffe: ", document_prompt="stand | "),
}
CUSTOM = {
    "de-untied": lambda: learned(dual_encoder(tied=False, projection_size=8, normalize=True, learn_scale=True)),
    "de-norm": lambda: dual_encoder(output_norm=True, query_prompt="giraffe ", document_prompt="stand "),
    "colbert-dot": lambda: colbert(
        normalize=False,
        mask_augmentation="append",
        mask_tokens=3,
        scale=0.5,
        query_prompt="tall ",
        document_prompt="stand ",
    ),
}


def save(model, directory):
    """A trainer's output: model, tokenizer with the settings of its last call, nothing else."""
    model.save_pretrained(directory)
    tokenizer = tiny.tokenizer(WORDS)
    tokenizer(["how tall"], truncation=True, max_length=3, padding="max_length")
    tokenizer.save_pretrained(directory)
    return directory
