"""BM25 of a collection too large for an index in memory: proposed by `tantivy` on disk, scored as `bm25s` does.

tantivy's own BM25 has fixed parameters, k1 = 1.2 and b = 0.75. Its best documents are proposals here, which are scored
with the same words and the same formula as in memory. The index and the words of the documents are memory-mapped.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from bm25s.tokenization import Tokenizer
from tqdm import tqdm

from m3se.trainers.data.bm25_ranking import BM25Ranking, best_scores
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.stored_words import StoredWords, WordWriter
from m3se.trainers.errors import InputError
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import reusable


if TYPE_CHECKING:
    from tantivy import Searcher

logger = logging.getLogger(__name__)

PROPOSED = 1_000  # documents of a query at least that are scored again, and
PER_RESULT = 4  # for each that is asked for
WORDS_REMEMBERED = 500_000  # with their stems
BUFFER = 256_000_000  # bytes of words in memory before they are written


class DiskBM25Index(BM25Ranking):
    """Lucene's BM25 over a document table, with its index on disk.

    Args:
        documents: the texts.
        folder: of the index, as `build_on_disk` makes it.
        split: gives the words of a query.
        k1, b: parameters of BM25.
        name: for reports.
    """

    def __init__(
        self,
        documents: DocumentTable,
        folder: Path,
        split: Callable[[str], list[str]],
        k1: float,
        b: float,
        name: str,
    ):
        import tantivy

        self.name, self.documents = name, documents
        self._split, self._k1, self._b = split, k1, b
        self._index = tantivy.Index.open(str(folder))
        self._searcher: Searcher = self._index.searcher()
        self._words = StoredWords(folder)

    def positions(self, queries: Sequence[str], depth: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, as `search` finds them, row numbers in the document table (int64) and scores (float32) per query."""
        for query in tqdm(queries, desc="BM25", unit="query", total=len(queries), disable=len(queries) == 1):
            words = self._split(query)
            rows = np.sort(self._propose(words, max(PROPOSED, PER_RESULT * depth)))
            places, scores = best_scores(self._score(words, rows), depth)
            yield rows[places], scores

    def scores(self, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> Iterator[list[float]]:
        """Yield the scores of the documents listed for each query, by id; 0 for one that shares no word with it."""
        for query, ids in zip(queries, documents, strict=True):
            yield self._score(self._split(query), np.asarray(self.documents.positions(ids), np.int64)).tolist()

    def _propose(self, words: list[str], count: int) -> np.ndarray:
        """Return the rows of the documents that tantivy ranks first, in no order."""
        from tantivy import Occur, Query

        if not words:
            return np.empty(0, np.int64)
        terms = [(Occur.Should, Query.term_query(self._index.schema, "words", word, "freq")) for word in words]
        hits = self._searcher.search(Query.boolean_query(terms), count, count=False).hits
        addresses = [address for _, address in hits]
        return np.array(self._searcher.fast_field_values("row", addresses), np.int64)

    def _score(self, words: list[str], rows: np.ndarray) -> np.ndarray:
        """Score documents for the words of a query: [n] float32, added up in the order of the words as bm25s does."""
        total = len(self.documents)
        repeats = Counter(words)
        counts, lengths = self._words.counts(repeats, rows)
        norm = self._k1 * (1 - self._b + self._b * lengths / self._words.mean_length)
        scores = np.zeros(len(rows), np.float32)
        for (word, times), count in zip(repeats.items(), counts, strict=True):
            frequency = self._searcher.doc_freq("words", word)
            weight = times * math.log(1 + (total - frequency + 0.5) / (frequency + 0.5))
            places = np.flatnonzero(count)
            scores[places] += (weight * count[places] / (count[places] + norm[places])).astype(np.float32)
        return scores


def has_tantivy() -> bool:
    """Tell whether the library of the index on disk is installed."""
    return find_spec("tantivy") is not None


def word_splitter(tokenizer: Tokenizer) -> Callable[[str], list[str]]:
    """Return a function that splits a text into the words that bm25s' tokenizer makes of it, without a vocabulary."""
    stopwords = set(tokenizer.stopwords)

    @lru_cache(WORDS_REMEMBERED)
    def stem(word: str) -> str | None:
        """Return what stands for a word in the index; None for a stop word."""
        if word in stopwords:
            return None
        return word if tokenizer.stemmer is None else tokenizer.stemmer(word)

    def split(text: str) -> list[str]:
        """Split a text."""
        return list(filter(None, map(stem, tokenizer.splitter(text.lower()))))

    return split


def build_on_disk(
    documents: DocumentTable, tokenizer: Tokenizer, description: str, k1: float, b: float, name: str, cache_dir: Path
) -> DiskBM25Index:
    """Index `documents` on disk, or open the index in `cache_dir` that was built of the same texts and words.

    Args:
        documents: the texts to find.
        tokenizer: of bm25s.
        description: tells one tokenizer from another.
        k1, b: parameters of BM25, which the index does not depend on.
        name: for reports.
        cache_dir: where the index is kept.

    Raises:
        InputError: the texts have not a single word.
    """
    split = word_splitter(tokenizer)
    key = blake2b(f"{documents.fingerprint} {description} hashed".encode(), digest_size=8).hexdigest()
    folder = cache_dir / f"words-{key}"
    if reusable(folder):
        logger.info("BM25: reusing %s", folder)
    else:
        with complete_folder(folder, replace=False) as new:
            write_index(documents, split, new)
    return DiskBM25Index(documents, folder, split, k1, b, f"{name[:-1]}, on disk)")


def write_index(documents: DocumentTable, split: Callable[[str], list[str]], folder: Path) -> None:
    """Write the words of all documents into a folder that is there."""
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("words", stored=False, tokenizer_name="words", index_option="freq")
    builder.add_integer_field("row", stored=False, fast=True)
    index = tantivy.Index(builder.build(), str(folder))
    index.register_tokenizer("words", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())
    writer = index.writer(BUFFER, num_threads=1)
    with tqdm(total=len(documents), desc="BM25: writing words", unit="document") as bar, WordWriter(folder) as stored:
        for ids, texts in documents.batches():
            for text in texts:
                words = split(text)
                writer.add_document(tantivy.Document(words=" ".join(words), row=stored.documents))
                stored.add(words)
            bar.update(len(ids))
    if not stored.words:
        raise InputError("BM25: no document has a word to search for")
    writer.commit()
    writer.wait_merging_threads()
