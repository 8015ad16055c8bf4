"""The words of every document in memory-mapped files, as one number of 64 bits for each word."""

from collections.abc import Collection, Iterable
from contextlib import ExitStack
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np


HASHES, ENDS = "hashes.u64", "ends.u64"
WORDS_REMEMBERED = 500_000  # with their numbers


@lru_cache(WORDS_REMEMBERED)
def word_hash(word: str) -> int:
    """Return the number that stands for a word: two of ten million words share one with a probability of 3e-6."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


class WordWriter:
    """Files of the words of documents, written one document after the other; a context manager."""

    def __init__(self, folder: Path):
        self._folder, self._files = folder, ExitStack()
        self.documents, self.words = 0, 0

    def __enter__(self) -> "WordWriter":
        """Open the files."""
        self._hashes = self._files.enter_context((self._folder / HASHES).open("wb"))
        self._ends = self._files.enter_context((self._folder / ENDS).open("wb"))
        return self

    def __exit__(self, *error) -> None:
        """Close the files."""
        self._files.close()

    def add(self, words: Iterable[str]) -> None:
        """Append the words of the next document."""
        hashes = np.fromiter(map(word_hash, words), "<u8")
        self.documents += 1
        self.words += len(hashes)
        self._hashes.write(hashes.tobytes())
        self._ends.write(np.array([self.words], "<u8").tobytes())


class StoredWords:
    """The files of a `WordWriter`, memory-mapped: only the pages of the documents that are asked for are read."""

    def __init__(self, folder: Path):
        self._hashes = np.memmap(folder / HASHES, "<u8", mode="r")
        self._ends = np.memmap(folder / ENDS, "<u8", mode="r")
        self.mean_length = len(self._hashes) / len(self._ends)

    def counts(self, words: Collection[str], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count words in documents.

        Args:
            words: W different words.
            rows: [n] numbers of documents, in the order in which they were written.

        Returns:
            How often each word is in each document, [W, n], and the number of words of each document, [n]; int64.
        """
        ends = self._ends[rows].astype(np.int64)
        starts = np.where(rows > 0, self._ends[np.maximum(rows, 1) - 1], 0).astype(np.int64)
        lengths = ends - starts
        owners = np.repeat(np.arange(len(rows)), lengths)
        first = np.cumsum(lengths) - lengths  # of each document among the hashes that are read
        hashes = self._hashes[np.arange(lengths.sum()) + np.repeat(starts - first, lengths)]
        counts = [np.bincount(owners[hashes == word_hash(word)], minlength=len(rows)) for word in words]
        return np.array(counts, np.int64).reshape(len(words), len(rows)), lengths
