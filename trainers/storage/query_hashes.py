"""Hashes of the queries that a model was trained on, kept beside it.

A query is known again by its text, since ids such as `1` mean another query in another data set. Eight bytes a query:
for a million queries the chance that an unseen one is taken for a seen one is 5e-14.
"""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from m3se.trainers.errors import InputError
from m3se.trainers.storage.atomic import complete_file


HASHES = "train_queries.npy"  # uint64 [distinct queries], sorted


def hash_queries(texts: Iterable[str]) -> np.ndarray:
    """Hash the texts of queries: uint64 [n]."""
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8")


def write_query_hashes(folder: Path, texts: Iterable[str]) -> None:
    """Write the hashes of a model's training queries into its folder."""
    with complete_file(folder / HASHES) as path, open(path, "wb") as file:
        np.save(file, np.unique(hash_queries(texts)))


def read_query_hashes(folder: Path) -> np.ndarray | None:
    """Read the hashes of a model's training queries, None for a folder that has none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / HASHES
    if not path.is_file():
        return None
    try:
        hashes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if hashes.dtype != np.dtype("<u8") or hashes.ndim != 1:
        raise InputError(f"{path} is damaged: expected a list of 64-bit numbers")
    return hashes
