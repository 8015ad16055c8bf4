"""The texts that both sides work on: real ones, of mixed length, each already cut to what a model keeps of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from datasets import Dataset
from transformers import AutoConfig

from m3se.trainers.data import BM25Index, Collection, DocumentTable, RankingLists, read_data, training_lists
from m3se.trainers.devices import autocast_dtype, default_device
from m3se.trainers.errors import InputError
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.models.inspection import load_tokenizer
from m3se.trainers.models.text_inputs import TextInputs


@dataclass
class Sizes:
    """The amount of work of each row."""

    queries: int = 16
    pairs: int = 512
    documents: int = 1024
    reranked: int = 1000
    searched: int = 1_000_000
    search_queries: int = 1000


@dataclass
class Workload:
    """Texts, encoder and sizes of one benchmark. Lengths are in tokens, special tokens included.

    What it reads is kept with it; a copy by `dataclasses.replace` is without, to be sent to another process.
    """

    encoder: str
    data: str
    split: str
    cache_dir: str
    sizes: Sizes
    query_length: int = 30
    document_length: int = 200
    peers: Sequence[str] = ("torch",)

    def __post_init__(self):
        self.path = encoder_path(self.encoder)
        self.device = default_device()
        self.tokenizer = load_tokenizer(self.path)
        self.inputs = TextInputs(self.tokenizer, self.query_length, self.document_length)

    @property
    def dtypes(self) -> list[str]:
        """Return the number formats a side may choose from: the ones this processor multiplies in."""
        return ["float32"] if autocast_dtype(self.device) is torch.float32 else ["float32", "bfloat16"]

    @cached_property
    def collection(self) -> Collection:
        """Read the collection, once."""
        return read_data(self.data, self.split, cache_dir=self.cache_dir)

    @cached_property
    def index(self) -> BM25Index:
        """Build or read BM25's index of the collection, once."""
        return BM25Index.build(self.collection.documents, cache_dir=self.cache_dir)

    def lists(self, documents_per_query: int, queries: int | None = None) -> RankingLists:
        """Make training lists of the first queries, with random teacher scores, over a table of cut texts.

        Raises InputError when the collection has too few.
        """
        count = self.sizes.queries if queries is None else queries
        collection = self.collection
        part = collection.only(set(list(collection.queries)[: 4 * count]))  # some may lack candidates
        lists = training_lists(part, self.index, documents_per_query, depth=max(100, documents_per_query))
        if len(lists.rows) < count:
            raise InputError(
                f"{self.data}: {len(lists.rows)} queries have {documents_per_query} documents, not {count}"
            )
        draw = random.Random(0)
        rows, names = [], {}
        for row in lists.rows.select(range(count)):
            scores = [draw.gauss(0, 3) for _ in row["document_ids"]]
            rows.append(row | {"query": self.cut([row["query"]], self.query_length)[0], "teacher_scores": scores})
            names |= dict.fromkeys(row["document_ids"])
        texts = self.cut(lists.documents.texts(list(names)), self.document_length)
        return RankingLists(Dataset.from_list(rows), DocumentTable.from_texts(list(names), texts))

    def texts(self, count: int, least: int = 0) -> list[str]:
        """Return the first documents of the collection that have `least` tokens or more, cut.

        Raises InputError when a hundred times as many documents have too few of them.
        """
        looked_at = min(len(self.collection.documents), count if least == 0 else 100 * count)
        texts = self.cut(self.collection.documents.texts_at(range(looked_at)), self.document_length)
        if least:
            texts = [text for text, length in zip(texts, self.lengths(texts), strict=True) if length >= least]
        if not texts:
            raise InputError(f"{self.data}: none of {looked_at} documents has {least} tokens")
        return texts[:count]

    def short_queries(self, count: int, length: int) -> list[str]:
        """Return the first queries of the collection, cut to `length` tokens."""
        return self.cut(list(self.collection.queries.values())[:count], length)

    def pairs(self, count: int) -> tuple[list[str], list[str]]:
        """Return queries and documents of pairs, from lists of eight."""
        lists = self.lists(8, -(-count // 8))
        queries, names = [], []
        for row in lists.rows:
            queries += [row["query"]] * len(row["document_ids"])
            names += row["document_ids"]
        return queries[:count], lists.documents.texts(names[:count])

    def cut(self, texts: list[str], length: int) -> list[str]:
        """Cut texts to their beginnings of at most `length` tokens with [CLS] and [SEP]."""
        encoded = self.tokenizer(texts, truncation=True, max_length=length, return_offsets_mapping=True)
        beginnings = []
        for text, offsets in zip(texts, encoded["offset_mapping"], strict=True):
            beginnings.append(text[: max((end for _, end in offsets), default=0)])
        return beginnings

    def lengths(self, texts: list[str]) -> list[int]:
        """Count the tokens of each text, [CLS] and [SEP] included."""
        return list(map(len, self.tokenizer(texts)["input_ids"]))

    def forward_flop(self, lengths: list[int]) -> int:
        """Count the multiplications and additions of one pass of the encoder over texts without padding.

        Per layer and token 4 H² in attention's projections and 2 H I in the feed-forward layer, and per text 2 H L²
        in its scores and weighted sums, each counted twice.
        """
        config = AutoConfig.from_pretrained(self.path)
        width, inner = config.hidden_size, config.intermediate_size
        tokens, squares = sum(lengths), sum(length**2 for length in lengths)
        return 2 * config.num_hidden_layers * (tokens * (4 * width**2 + 2 * width * inner) + 2 * width * squares)
