"""Rows → tensors: every distinct document of a batch is tokenised, and later embedded, once."""

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from m3se.modeling.base import RankingModelConfig
from m3se.trainers.data import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.matching.text_embeddings import TextEmbeddings
from m3se.trainers.models.text_inputs import TextInputs


TARGETS = ("mask", "labels", "teacher_scores")
TEACHER_VECTORS = ("teacher_query_embeddings", "teacher_document_embeddings")
UNSEEN = ("document_keys", "own_keys", "query_ids", *TEACHER_VECTORS)  # batch entries that the model does not see


@dataclass
class RankingCollator:
    """Rows of `trainers.data.ROW_FEATURES` -> one batch for any of our models, which `for_model` makes it fit.

    For B queries of up to K documents, N of them distinct:
        query_input_ids, query_attention_mask        [B, Q]
        document_input_ids, document_attention_mask  [N, D]
        document_index    [B, K] into the N documents, -1 beyond the end of a shorter list
        mask              [B, K] bool, real documents
        labels            [B, K] float32
        teacher_scores    [B, K] float32, NaN = unknown
        document_keys     [N] positions in the document table: the same document has the same key in every process
        own_keys          [B, P] keys of a query's own documents and known positives, -1 for none
        query_ids         B strings, for messages

    With `teacher_embeddings`, those of the batch's texts are there too: teacher_query_embeddings [B, T] and
    teacher_document_embeddings [N, T] float32. With `document_embeddings`, document_embeddings [N, H] float32 take the
    place of the documents' tokens, and of the teacher's embeddings of documents.
    """

    tokenizer: PreTrainedTokenizerBase
    documents: DocumentTable
    query_length: int
    document_length: int
    query_prompt: str = ""
    document_prompt: str = ""
    teacher_embeddings: TextEmbeddings | None = None
    document_embeddings: TextEmbeddings | None = None

    @classmethod
    def for_model(
        cls, tokenizer: PreTrainedTokenizerBase, documents: DocumentTable, config: RankingModelConfig, **embeddings
    ) -> "RankingCollator":
        """Make the collator of a model of ours, with the lengths and prompts of its config, and perhaps embeddings."""
        lengths = config.query_length, config.document_length
        return cls(tokenizer, documents, *lengths, config.query_prompt, config.document_prompt, **embeddings)

    def check_prompts(self, config: RankingModelConfig) -> None:
        """Raise InputError when the model expects other words before its texts than are put there."""
        expected, prompts = (config.query_prompt, config.document_prompt), (self.query_prompt, self.document_prompt)
        if prompts != expected:
            raise InputError(
                f"RankingCollator: the model expects the prompts {expected}, got {prompts}; for_model takes its own"
            )

    def __call__(self, rows: list[dict]) -> dict[str, Tensor | list[str]]:
        own, teacher_scores = [], []
        for row in rows:
            own.append([*row["document_ids"], *row.get("positive_ids", ())])
            teacher_scores.append(row.get("teacher_scores", [torch.nan] * len(row["labels"])))
        names = list(dict.fromkeys(chain.from_iterable(own)))
        keys = dict(zip(names, self.documents.positions(names).tolist(), strict=True))
        listed = column(rows, "document_ids")
        places = dict.fromkeys(chain.from_iterable(listed))
        places = dict(zip(places, range(len(places)), strict=True))
        document_keys = list(map(keys.__getitem__, places))
        index = ragged(numbered(listed, places), -1, torch.long)
        queries = column(rows, "query")
        return {
            **self.encode(queries, "query"),
            **self.encode_positions(document_keys),
            **self.teacher_vectors(queries, document_keys),
            "document_index": index,
            "mask": index >= 0,
            "labels": ragged(column(rows, "labels"), 0.0, torch.float32),
            "teacher_scores": ragged(teacher_scores, torch.nan, torch.float32),
            "own_keys": ragged(numbered(own, keys), -1, torch.long),
            "query_ids": column(rows, "query_id"),
        }

    def encode_positions(self, positions: list[int]) -> dict[str, Tensor]:
        """Encode documents by their position in the table: ids and mask [M, D], or embeddings [M, H], and keys [M]."""
        keys = {"document_keys": torch.tensor(positions)}
        if self.document_embeddings is not None:
            return {"document_embeddings": self.document_embeddings.document_vectors(positions), **keys}
        return {**self.encode(self.documents.texts_at(positions), "document"), **keys}

    def teacher_vectors(self, queries: list[str], positions: list[int]) -> dict[str, Tensor]:
        """Look up the teacher's embeddings of queries and of documents, by position; none without a teacher."""
        if self.teacher_embeddings is None:
            return {}
        vectors = {"teacher_query_embeddings": self.teacher_embeddings.query_vectors(queries)}
        if self.document_embeddings is None:
            vectors["teacher_document_embeddings"] = self.teacher_embeddings.document_vectors(positions)
        return vectors

    def encode(self, texts: list[str], side: str) -> dict[str, Tensor]:
        """Tokenise the texts of a side ("query" or "document"): ids and mask, as `TextInputs` makes them."""
        lengths = self.query_length, self.document_length
        ids, mask = TextInputs(self.tokenizer, *lengths, self.query_prompt, self.document_prompt)(texts, side)
        return {f"{side}_input_ids": ids, f"{side}_attention_mask": mask}


def model_inputs(batch: dict) -> dict[str, Tensor]:
    """Return what a model's forward takes of a batch."""
    return {name: value for name, value in batch.items() if name not in (*TARGETS, *UNSEEN)}


def column(rows: list[dict], name: str) -> list:
    """Return a value of every row."""
    return [row[name] for row in rows]


def numbered(rows: list[list[str]], numbers: dict[str, int]) -> list[list[int]]:
    """Return the number of every name."""
    return [list(map(numbers.__getitem__, row)) for row in rows]


def ragged(rows: list[list], fill: float, dtype: torch.dtype) -> Tensor:
    """Make lists of different lengths a tensor [B, K], the shorter ones filled up."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], dtype=dtype)
