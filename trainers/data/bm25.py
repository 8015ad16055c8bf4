"""BM25 candidates by `bm25s`, with the index kept on disk."""

import json
import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import bm25s
import numpy as np
import Stemmer
from bm25s.tokenization import Tokenized, Tokenizer
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import reusable


logger = logging.getLogger(__name__)
logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG


class BM25Index:
    """Lucene's BM25 over a document table; a `CandidateSource`.

    `k1` = 0.9 and `b` = 0.4 are the values the MS MARCO literature reports BM25 with (Anserini's defaults).
    """

    def __init__(self, documents: DocumentTable, engine: bm25s.BM25, tokenizer: Tokenizer, name: str):
        self.name = name
        self.documents = documents
        self._engine = engine
        self._tokenizer = tokenizer

    @classmethod
    def build(
        cls,
        documents: DocumentTable,
        k1: float = 0.9,
        b: float = 0.4,
        stemmer: str | None = "english",
        cache_dir: str | Path | None = None,
    ) -> "BM25Index":
        """Index `documents`, or open the index in `cache_dir` that was built of the same texts and parameters.

        `stemmer` names a Snowball stemmer (None: words as they are); English stop words are left out when it is
        "english". Raises InputError for an empty table, an unknown stemmer, or texts without a single word.
        """
        if len(documents) == 0:
            raise InputError("BM25: the collection has no documents")
        tokenizer = _tokenizer(stemmer)
        name = f"BM25 (k1 {k1:g}, b {b:g}, stemmer {stemmer or 'none'})"
        if cache_dir is None:
            return cls(documents, _engine(documents, tokenizer, k1, b), tokenizer, name)
        key = json.dumps([documents.fingerprint, k1, b, stemmer, bm25s.__version__])
        folder = Path(cache_dir) / f"bm25-{blake2b(key.encode(), digest_size=8).hexdigest()}"
        if reusable(folder):
            logger.info("BM25: reusing %s", folder)
        else:
            with complete_folder(folder, replace=False) as new:
                engine = _engine(documents, tokenizer, k1, b)
                engine.save(new, show_progress=False)
                tokenizer.save_vocab(new)
        tokenizer.load_vocab(folder)
        return cls(documents, bm25s.BM25.load(folder, mmap=True, load_vocab=False), tokenizer, name)

    def search(self, queries: Sequence[str], depth: int) -> tuple[list[list[str]], list[list[float]]]:
        """Ids and scores of each query's best documents, best first, at most `depth`; equal scores in table order.

        Documents that share no word with the query are no candidates, so a list may be shorter, even empty.
        """
        ids, scores = [], []
        for positions, values in self.positions(queries, depth):
            ids.append(self.documents.ids_at(positions))
            scores.append(values.tolist())
        return ids, scores

    def ranked(self, collection: Collection, queries: list[str], depth: int) -> Iterator[tuple[str, list[str]]]:
        """(query id, ids of its best documents) of the collection's queries with these ids."""
        found = self.positions([collection.queries[query] for query in queries], depth)
        for query, (positions, _) in zip(queries, found, strict=True):
            yield query, self.documents.ids_at(positions)

    def positions(self, queries: Sequence[str], depth: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `search`, one query at a time: row numbers in the document table (int64) and scores (float32)."""
        words = self._tokenizer.tokenize(list(queries), update_vocab=False, allow_empty=False, return_as="stream")
        for query in tqdm(words, desc="BM25", unit="query", total=len(queries)):
            yield _best(self._engine.get_scores(query) if query else np.empty(0, np.float32), depth)


def _best(scores: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of the `depth` highest scores above 0, equal ones in the order of the table."""
    positions = np.flatnonzero(scores > 0)
    if len(positions) > depth:
        lowest = np.partition(scores[positions], -depth)[-depth]
        positions = positions[scores[positions] >= lowest]
    order = np.lexsort((positions, -scores[positions]))[:depth]
    return positions[order], scores[positions[order]]


def _tokenizer(stemmer: str | None) -> Tokenizer:
    if stemmer is not None and stemmer not in Stemmer.algorithms():
        known = ", ".join(sorted(Stemmer.algorithms()))
        raise InputError(f"BM25: unknown stemmer {stemmer!r}; expected one of {known}")
    stopwords = "english" if stemmer == "english" else []
    return Tokenizer(lower=True, stopwords=stopwords, stemmer=Stemmer.Stemmer(stemmer) if stemmer else None)


def _engine(documents: DocumentTable, tokenizer: Tokenizer, k1: float, b: float) -> bm25s.BM25:
    texts = (text for _, some in documents.batches() for text in some)
    bar = tqdm(texts, desc="BM25: reading", total=len(documents), unit="document")
    tokens = FlatTokens(tokenizer.streaming_tokenize(bar, update_vocab=True, allow_empty=False))
    if not tokens.flat:
        raise InputError("BM25: no document has a word to search for")
    engine = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy", csc_backend="auto")
    engine.index(Tokenized(ids=tokens, vocab=tokenizer.get_vocab_dict()), show_progress=False)
    return engine


class FlatTokens:
    """Lists of token ids one behind the other: 4 bytes per token, where lists of integers take 8 and 56 per list."""

    def __init__(self, lists: Iterable[list[int]]):
        self.flat = array("i")
        self._ends = array("q")
        for tokens in lists:
            self.flat.extend(tokens)
            self._ends.append(len(self.flat))

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[array]:
        start = 0
        for end in self._ends:
            yield self.flat[start:end]
            start = end
