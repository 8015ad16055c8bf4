"""Models of a few thousand random weights, a real WordPiece tokeniser and lists of words: nothing is downloaded.

Plain functions, because the worker processes of the distributed tests build the same things without pytest.
"""

import random

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from m3se import (
    ColBERT,
    ColBERTConfig,
    CrossEncoder,
    CrossEncoderConfig,
    DistillationTrainer,
    DualEncoder,
    DualEncoderConfig,
    RankingCollator,
    RankingConfig,
)
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.devices import autocast_dtype
from m3se.trainers.retrieval.scorers import DenseScorer


TEXT = "red blue green tree river stone cloud fish bird horse bread salt iron glass paper sound light night"
WORDS = TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["##s", "##ed", "##ing", "##er", "[unused0]", "[unused1]"]  # the last two mark texts for ColBERT
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
LENGTHS = {"query_length": 8, "document_length": 16}
IS_BFLOAT16 = autocast_dtype("cpu") is torch.bfloat16  # what "auto" stands for on this processor: eight bits agree


def tokenizer(words: list[str] = WORDS, pieces: list[str] = PIECES, **options) -> BertTokenizerFast:
    """A WordPiece tokeniser that knows `words` and a few endings."""
    made = BertTokenizerFast(vocab=numbered([*SPECIAL, *words, *pieces]), **options)
    assert made(words[0])["input_ids"] != made(words[1])["input_ids"]  # transformers 5 can drop a vocabulary silently
    return made


def word_tokenizer(vocabulary: list[str], pairs, **options) -> PreTrainedTokenizerFast:
    """A tokeniser of whole words for texts of 64 tokens; `pairs` puts the texts of a pair together."""
    backend = Tokenizer(models.WordLevel(numbered(vocabulary), unk_token=options["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = pairs
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{"model_max_length": 64} | options)


def numbered(vocabulary: list[str]) -> dict[str, int]:
    """The id of each token: its place."""
    return {token: number for number, token in enumerate(vocabulary)}


def bert(seed: int = 0, dropout: float = 0.0, **fields) -> BertConfig:
    """A BERT of one layer whose random weights are large enough for scores that differ."""
    torch.manual_seed(seed)
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    vocabulary = {"vocab_size": len(SPECIAL) + len(WORDS) + len(PIECES), "max_position_embeddings": 64}
    return BertConfig(**SIZES | vocabulary | dropouts | {"initializer_range": 0.3} | fields)


def dual_encoder(seed: int = 0, dropout: float = 0.0, **fields) -> DualEncoder:
    fields = LENGTHS | {"pooling": "mean", "embedding_dropout": dropout} | fields
    return DualEncoder(DualEncoderConfig(encoder_config=bert(seed, dropout), **fields))


def colbert(seed: int = 0, dropout: float = 0.0, **fields) -> ColBERT:
    """The first three words are its markers and the one word it does not compare."""
    ids = {"mask_token_id": 4, "query_marker_id": 5, "document_marker_id": 6, "skiplist_ids": [7]}
    fields = LENGTHS | ids | {"projection_size": 6, "embedding_dropout": dropout} | fields
    return ColBERT(ColBERTConfig(encoder_config=bert(seed, dropout), **fields))


def cross_encoder(seed: int = 0, dropout: float = 0.0) -> CrossEncoder:
    return CrossEncoder(CrossEncoderConfig(encoder_config=bert(seed, dropout, num_labels=1), **LENGTHS))


def save_classifier(folder, seed: int = 0) -> str:
    """A stock classifier with one logit and its tokeniser, as teachers are found on disk."""
    BertForSequenceClassification(bert(seed, num_labels=1)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def ranking_lists(queries: int = 8, documents: int = 4, seed: int = 0, scored: bool = True) -> RankingLists:
    """Lists of `documents` (some one shorter), the first or the first two relevant, over a table of 40 documents."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(40)]
    ids = [f"d{i}" for i in range(len(texts))]
    rows = []
    for i in range(queries):
        count = documents - (i % 3 == 2)
        positives = 1 + (i % 4 == 3)
        row = {
            "query_id": f"q{i}",
            "query": " ".join(draw.choices(WORDS, k=draw.randint(1, 5))),
            "document_ids": draw.sample(ids, count),
            "labels": [1.0] * positives + [0.0] * (count - positives),
        }
        if scored:
            row["teacher_scores"] = [draw.gauss(0, 3) for _ in range(count)]
        rows.append(row)
    return RankingLists(Dataset.from_list(rows), DocumentTable.from_texts(ids, texts))


def collator(lists: RankingLists, **embeddings) -> RankingCollator:
    return RankingCollator(tokenizer(), lists.documents, **LENGTHS, **embeddings)


def embedder(width: int = 16, name: str = "tiny") -> DenseScorer:
    """Vectors that depend on text and side only."""

    def embed(texts, side, bar=None):
        vectors = [np.random.default_rng([*f"{side} {text}".encode()]).standard_normal(width) for text in texts]
        return np.array(vectors, dtype=np.float32)

    return DenseScorer(embed, f"{name} {width}", torch.device("cpu"))


def batch(lists: RankingLists, rows: list[int] | None = None) -> dict:
    """The collated rows of `lists`, by number (None: all)."""
    return collator(lists)([lists.rows[i] for i in (range(len(lists.rows)) if rows is None else rows)])


def model_inputs(collated: dict) -> dict:
    """What a model's forward takes of a collated batch."""
    names = ("query_input_ids", "query_attention_mask", "document_input_ids", "document_attention_mask")
    return {name: collated[name] for name in (*names, "document_index")}


def flat_weights(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def make_trainer(
    model, lists: RankingLists, folder, dev: RankingLists | None = None, embeddings: dict | None = None, **options
) -> DistillationTrainer:
    """A trainer on the CPU, in float32 and silent, unless `options` say otherwise; `embeddings` as the collator's."""
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    args = RankingConfig(output_dir=str(folder), **quiet | {"precision": "fp32", "max_steps": 2} | options)
    return DistillationTrainer(
        model=model,
        args=args,
        data_collator=collator(lists, **embeddings or {}),
        train_dataset=lists.rows,
        eval_dataset=dev.rows if dev else None,
        eval_documents=dev.documents if dev else None,
        processing_class=tokenizer(),
    )


def train_logs(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def eval_logs(trainer):
    return [entry for entry in trainer.state.log_history if "eval_MRR@10" in entry]
