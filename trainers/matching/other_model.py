"""The other model that a student is trained beside: it gives the embeddings to match, or embeds the documents."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from m3se.modeling.checkpoints import FIELDS_KEY
from m3se.modeling.dual_encoder import DualEncoder
from m3se.trainers.data import RankingLists
from m3se.trainers.devices import choose_dtype
from m3se.trainers.errors import InputError
from m3se.trainers.matching.pooled_tokens import pool_tokens
from m3se.trainers.matching.projection import add_projection
from m3se.trainers.matching.text_embeddings import TextEmbeddings, embed_lists
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.scorers import ColBERTScorer, DenseScorer
from m3se.trainers.teacher.pair_scorer import KINDS


COMPLETE = ("dual_encoder", "sentence_transformers", "static")  # kinds that know how to embed a text
UNIT = 1e-3  # how far from 1 the length of a normalised embedding may be


@dataclass
class OtherModel:
    """A model that stays as it is, and whose embeddings a student needs.

    Attributes:
        name: folder or Hub id, or "demo".
        scorer: embeds texts; None once it has.
        fingerprints: of its embeddings, by number format, the scorer's first.
        width: of its embeddings.
        is_normalized: they have unit length.
        has_documents: the student's queries meet its embeddings of documents.
        matches: the student's embeddings match its own.
    """

    name: str
    scorer: DenseScorer | None
    fingerprints: dict[str, str]
    width: int
    is_normalized: bool
    has_documents: bool
    matches: bool

    @classmethod
    def load(cls, name: str, device: torch.device, has_documents: bool, matches: bool) -> "OtherModel":
        """Load a model on a device.

        Args:
            name: folder or Hub id, or "demo".
            device: embeds the texts.
            has_documents, matches: what it is for.

        Raises:
            InputError: it embeds no text, or not by itself, or the documents in more than one vector each.
        """
        info = ModelInfo.read(name)
        if info.kind not in COMPLETE and (has_documents or info.kind != "colbert"):
            late = "" if has_documents else ", or a ColBERT model, whose vectors of tokens are averaged"
            raise InputError(
                f"{name} is {KINDS[info.kind]}; expected a dual encoder or a sentence-transformers model, which "
                f"embeds a text in one vector{late}"
            )
        if info.config.get(FIELDS_KEY, info.config).get("document_model") is not None:
            raise InputError(f"{name}: another model has embedded its documents; name that one")
        dtype = choose_dtype("auto", device)
        fingerprints = {}
        # a search elsewhere may compute in float32
        for number_format in (torch.float32, dtype) if has_documents and dtype != torch.float32 else (dtype,):
            loaded = load_scorer(info, str(number_format).removeprefix("torch."), device=device)
            scorer = pool_tokens(loaded) if isinstance(loaded, ColBERTScorer) else loaded
            fingerprints[str(number_format)] = scorer.fingerprint
        vector = scorer.encode(["a text"], "document")[0]
        is_normalized = bool(abs(np.linalg.norm(vector) - 1) < UNIT)
        return cls(name, scorer, fingerprints, len(vector), is_normalized, has_documents, matches)

    def identity(self) -> dict:
        """Return the entry of a run's key: the weights depend on it."""
        return {"other_model": self.fingerprints}

    def about(self) -> dict:
        """Return the entry of a run's record that the card reads."""
        return {"matched_to": Path(self.name).name} if self.matches else {}

    def embed(self, lists: RankingLists, dev: RankingLists | None, cache_dir: str) -> dict[str, TextEmbeddings]:
        """Return the embeddings of the lists' texts, as `fit` takes them; those missing in the cache are made.

        The model leaves the memory then, which is the student's from there on.
        """
        scorer, self.scorer = self.scorer, None
        embeddings = embed_lists(scorer, lists, cache_dir, with_queries=self.matches)
        result = {"teacher_embeddings": embeddings} if self.matches else {}
        if self.has_documents:
            result["document_embeddings"] = embeddings
            if dev is not None:
                result["eval_embeddings"] = embed_lists(scorer, dev, cache_dir, with_queries=False)
        return result

    def query_encoder_fields(self, info: ModelInfo, layers: int | None, chosen: set[str]) -> dict:
        """Return the config fields of a query encoder for documents that this model embeds.

        Args:
            info: the encoder that training starts from.
            layers: only its first layers are taken.
            chosen: fields that the user has chosen.
        """
        fields: dict = {"document_model": {"name": self.name, "fingerprints": self.fingerprints}}
        if "normalize" not in chosen:
            fields["normalize"] = self.is_normalized
        hidden = info.config.get("hidden_size", info.width)
        if "projection_size" not in chosen and self.width != (info.width if layers is None else hidden):
            fields["projection_size"] = None if hidden == self.width else self.width
        return fields

    def join(self, model: DualEncoder, has_adapters: bool) -> None:
        """Give a student a projection to this model's width for the training, where it has another.

        Args:
            model: the student.
            has_adapters: only adapters of it are trained.

        Raises:
            InputError: a query encoder with another width than its documents, or adapters beside a projection.
        """
        width = model.config.projection_size or model.config.encoder_config.hidden_size
        if self.has_documents and width != self.width:
            raise InputError(f"projection_size: expected {self.width}, the width of {self.name}, got {width}")
        if width != self.width and has_adapters:
            raise InputError(
                f"lora_r: the student's {width} numbers need a projection to the {self.width} of {self.name}, which "
                f"adapters would keep; choose projection_size {self.width}"
            )
        add_projection(model, self.width)
