"""Teachers of every kind, loaded by name."""

from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from m3se.trainers.devices import choose_dtype, default_device
from m3se.trainers.errors import InputError
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.scorers import TOKEN_EMBEDDED, ColBERTScorer, DenseScorer
from m3se.trainers.storage.query_hashes import read_query_hashes
from m3se.trainers.teacher.cross_fitting import CrossFitted, fold_folders
from m3se.trainers.teacher.judge import Judge
from m3se.trainers.teacher.list_teachers import RunTeacher
from m3se.trainers.teacher.pair_scorer import CHUNK_PAIRS, PairScorer


class EmbeddingTeacher:
    """A dual encoder, sentence-transformers model or ColBERT as a teacher.

    Its scores go through the cache pair by pair, as those of any teacher. The pairs of a chunk share the embeddings of
    their texts; a document that is in the lists of many chunks is embedded in each of them.

    Attributes:
        kind, scale: name what it is, and the scale of its scores, which no other model shares.
        The others are those of `PairScorer`.
    """

    def __init__(self, info: ModelInfo, scorer: DenseScorer | ColBERTScorer, dtype: torch.dtype):
        self.name = info.name
        self.kind = info.kind
        self.scorer = scorer
        self.dtype = dtype
        if isinstance(scorer, ColBERTScorer):
            self.chunk_pairs = TOKEN_EMBEDDED
        else:
            self.chunk_pairs = CHUNK_PAIRS.get(scorer.device.type, CHUNK_PAIRS["cuda"])
        self.backend: dict = {}

    @property
    def settings(self) -> dict:
        """Return what decides how texts are computed, for reports."""
        return {"kind": self.kind, **self.backend}

    @property
    def fingerprint(self) -> str:
        """Return what identifies the scores."""
        if isinstance(self.scorer, ColBERTScorer):
            return self.scorer.fingerprint
        name = f"{self.scorer.fingerprint} {self.scorer.scale!r}"  # embeddings are without the scale
        return blake2b(name.encode(), digest_size=16).hexdigest()

    @property
    def scale(self) -> str:
        """Return a name of the scale of the scores, which no other model shares."""
        return f"{self.kind} {self.fingerprint}"

    def score(self, queries: list[str], documents: list[str], bar: tqdm | None = None) -> np.ndarray:
        """Score pair i = (queries[i], documents[i]) -> float32 [n]; `bar` is advanced by n."""
        query_places, document_places = places(queries), places(documents)
        rows = [query_places[text] for text in queries]
        columns = [document_places[text] for text in documents]
        if isinstance(self.scorer, ColBERTScorer):
            pairs = list(zip(rows, columns, strict=True))
            scores = self.scorer.score_pairs(list(query_places), list(document_places), pairs)
        else:
            query_side = self.scorer.encode(list(query_places), "query")[rows]
            document_side = self.scorer.encode(list(document_places), "document")[columns]
            products = np.einsum("nh,nh->n", query_side, document_side, dtype=np.float64)
            scores = (products * self.scorer.scale).astype(np.float32)
        if bar is not None:
            bar.update(len(queries))
        return scores


def load_teacher(
    name: str,
    dtype: str | None = None,
    query_length: int | None = None,
    document_length: int | None = None,
    template: str | None = None,
    rank_targets: str | None = None,
    device: torch.device | None = None,
) -> PairScorer | EmbeddingTeacher | CrossFitted | RunTeacher:
    """Load anything that ranks as a teacher: a run, the folds of a teacher, or a model.

    Args:
        name: a file of scores or ranks, a folder of `train_teacher.py --folds`, or folder or Hub id of a model.
        dtype: "float32" or "bfloat16" (default: bfloat16 where the processor multiplies in it).
        query_length, document_length: tokens of a text, for models that read pairs.
        template: prompt of a language model, a name or a file; other models do not need it.
        rank_targets: rule that makes scores of a file's ranks.
        device: the processor that models run on (default: a GPU if there is one).

    Raises:
        InputError: no such model or file, one that cannot rank, or an option that is not for its kind.
    """
    if Path(name).is_file():
        return RunTeacher(name, rank_targets)
    options = dtype, query_length, document_length, template, device
    folders = fold_folders(name)
    if not folders:
        return load_model(name, *options)
    members = [load_model(str(folder), *options) for folder in folders]
    return CrossFitted(name, members, [read_query_hashes(folder) for folder in folders])


def load_model(
    name: str,
    dtype: str | None,
    query_length: int | None,
    document_length: int | None,
    template: str | None,
    device: torch.device | None,
) -> PairScorer | EmbeddingTeacher:
    """Load a cross-encoder, a language model that judges, or whatever else `load_scorer` takes.

    Args:
        name: folder or Hub id. The other arguments are those of `load_teacher`.
    """
    info = ModelInfo.read(name)
    if info.generates:
        return Judge.from_pretrained(info, dtype, query_length, document_length, device, template)
    if info.kind in ("cross_encoder", "encoder"):
        return PairScorer.from_pretrained(info, dtype, query_length, document_length, device)
    if query_length is not None or document_length is not None:
        raise InputError(f"query_length and document_length are for teachers that read pairs; {name} has its own")
    scorer = load_scorer(info, dtype or "auto", device=device)
    return EmbeddingTeacher(info, scorer, choose_dtype(dtype, device or default_device()))


def places(texts: list[str]) -> dict[str, int]:
    """Number the distinct texts in the order in which they occur."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts))}
