"""The loss of a number format: how far scores, order and embeddings moved from those of float32."""

from dataclasses import asdict, dataclass

import numpy as np

from m3se.trainers.backends.samples import Sample
from m3se.trainers.diagnostics.quantities import kendall_tau
from m3se.trainers.retrieval.scorers import DenseScorer, Scorer


@dataclass(frozen=True)
class Outputs:
    """The scores [K] of each list of a sample, and the embeddings [N, H] of its documents (None: it has none)."""

    scores: list[np.ndarray]
    embeddings: np.ndarray | None

    @classmethod
    def compute(cls, scorer: Scorer, sample: Sample) -> "Outputs":
        """Score a sample, and embed its documents where a text is one vector."""
        scores, documents = [], []
        for query, texts in sample:
            scores.append(np.array(scorer.score(query, texts)))
            documents += texts
        embeddings = scorer.encode(documents, "document") if isinstance(scorer, DenseScorer) else None
        return cls(scores, embeddings)


@dataclass(frozen=True)
class Loss:
    """The distance of two outputs for the same sample.

    Attributes:
        queries, documents: size of the sample; documents count once for each list.
        kendall_tau: mean τ-b over the lists.
        margin: mean size of the difference of two scores of a list.
        margin_moved: mean size of the change of such a difference.
        cosine, lowest_cosine: of embeddings with those of float32, mean and lowest; None without embeddings.
    """

    queries: int
    documents: int
    kendall_tau: float
    margin: float
    margin_moved: float
    cosine: float | None = None
    lowest_cosine: float | None = None

    def as_dict(self) -> dict:
        """Return the figures that there are."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        """Say all of it in one sentence."""
        moved = f"margins of scores move by {self.margin_moved:.3g} of {self.margin:.3g} on average"
        parts = [f"Kendall τ {self.kendall_tau:.3f}", moved]
        if self.cosine is not None:
            parts.append(f"cosine of embeddings {self.cosine:.4f}, lowest {self.lowest_cosine:.4f}")
        return f"{', '.join(parts)}; on {self.queries} queries × {self.documents // self.queries} documents"


def compare(exact: Outputs, moved: Outputs) -> Loss:
    """Compare outputs for the same sample with those of float32."""
    taus, sizes, changes = [], [], []
    for first, second in zip(exact.scores, moved.scores, strict=True):
        if len(first) > 1:
            taus.append(kendall_tau(first, second))
        sizes.append(np.abs(margins(first)))
        changes.append(np.abs(margins(second) - margins(first)))
    cosine = lowest = None
    if exact.embeddings is not None:
        cosines = unit(exact.embeddings) * unit(moved.embeddings)
        cosine, lowest = float(cosines.sum(axis=1).mean()), float(cosines.sum(axis=1).min())
    return Loss(
        queries=len(exact.scores),
        documents=sum(map(len, exact.scores)),
        kendall_tau=float(np.nanmean(taus)),
        margin=float(np.concatenate(sizes).mean()),
        margin_moved=float(np.concatenate(changes).mean()),
        cosine=cosine,
        lowest_cosine=lowest,
    )


def margins(scores: np.ndarray) -> np.ndarray:
    """Return the differences of all pairs of scores [K], the earlier minus the later: [K (K − 1) / 2]."""
    earlier, later = np.triu_indices(len(scores), k=1)
    return scores[earlier] - scores[later]


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Scale embeddings [N, H] to length 1."""
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
