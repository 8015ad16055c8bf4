"""A late-interaction model as one vector of a text, which a dual encoder can match."""

import numpy as np
from tqdm import tqdm

from m3se.trainers.retrieval.scorers import TOKEN_EMBEDDED, ColBERTScorer, DenseScorer


def pool_tokens(tokens: ColBERTScorer) -> DenseScorer:
    """Embed a text as the mean of the vectors that MaxSim compares, as TCT-ColBERT does (Lin et al., 2020).

    The inner product of a query's mean and a document's is the mean similarity of all pairs of their tokens, of which
    MaxSim takes the largest for each token of the query.
    """

    def embed(texts: list[str], side: str, bar: tqdm | None = None) -> np.ndarray:
        """Return the means [N, H] float32 of so many texts at a time that their tokens fit in memory."""
        means = []
        for start in range(0, len(texts), TOKEN_EMBEDDED):
            arrays = tokens.encode(texts[start : start + TOKEN_EMBEDDED], side, bar)
            means += [array.mean(axis=0) for array in arrays]
        return np.stack(means)

    return DenseScorer(embed, f"mean of {tokens.fingerprint}", tokens.model.device)
