"""BM25 candidates by `bm25s`, with the index kept on disk."""

import json
import logging
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Literal

import bm25s
import numpy as np
import Stemmer
from bm25s.tokenization import Tokenized, Tokenizer
from tqdm import tqdm

from m3se.trainers.data.bm25_disk import build_on_disk, has_tantivy, word_splitter
from m3se.trainers.data.bm25_ranking import BM25Ranking, best_scores
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import reusable


logger = logging.getLogger(__name__)
logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG

Words = Literal["words", "characters"]
MOST_IN_MEMORY = 2_000_000  # documents
WORD = r"(?u)\b\w\w+\b"
# Thai, Lao, Burmese, Khmer, kana, bopomofo, Han and half-width kana: scripts without spaces between words.
CHARACTER = (
    "\u0e01-\u0e4e\u0e81-\u0ecd\u1000-\u1049\u1780-\u17d3\u3005-\u3007\u3041-\u30ff\u3105-\u312f"
    "\u3400-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
WORD_OR_CHARACTERS = re.compile(rf"([^\W{CHARACTER}]{{2,}})|([{CHARACTER}]+)")


class BM25Index(BM25Ranking):
    """Lucene's BM25 over a document table, with its index in memory.

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
        tokenizer: Words = "words",
    ) -> BM25Ranking:
        """Index `documents`, or open the index in `cache_dir` that was built of the same texts and parameters.

        The index of more than two million documents is on disk where tantivy is installed.

        Args:
            documents: the texts to find.
            k1: how soon a repeated word adds no more.
            b: how much long documents are held back, 0 to 1.
            stemmer: a Snowball stemmer; None: words as they are. "english" also leaves out English stop words.
            cache_dir: where the index is kept; None: nowhere.
            tokenizer: "words" of two characters or more, as they stand between spaces and punctuation, or
                "characters": the same, but pairs of neighbouring characters in scripts without spaces.

        Raises:
            InputError: the table is empty, its texts have not a single word, or stemmer or tokenizer is unknown.
        """
        if len(documents) == 0:
            raise InputError("BM25: the collection has no documents")
        splitter = _tokenizer(stemmer, tokenizer)
        characters = [] if tokenizer == "words" else [tokenizer]
        name = f"BM25 ({', '.join([f'k1 {k1:g}', f'b {b:g}', 'stemmer ' + (stemmer or 'none'), *characters])})"
        if len(documents) > MOST_IN_MEMORY and cache_dir is not None:
            if has_tantivy():
                description = json.dumps([stemmer, tokenizer])
                return build_on_disk(documents, splitter, description, k1, b, name, Path(cache_dir))
            logger.warning(
                "BM25: the index of %s documents is built in memory, 1.5 GB a million; pip install 'm3se[store]' for "
                "one on disk",
                f"{len(documents):,}",
            )
        if cache_dir is None:
            return cls(documents, _engine(documents, splitter, k1, b), splitter, name)
        key = json.dumps([documents.fingerprint, k1, b, stemmer, bm25s.__version__, *characters])
        folder = Path(cache_dir) / f"bm25-{blake2b(key.encode(), digest_size=8).hexdigest()}"
        if reusable(folder):
            logger.info("BM25: reusing %s", folder)
        else:
            with complete_folder(folder, replace=False) as new:
                engine = _engine(documents, splitter, k1, b)
                engine.save(new, show_progress=False)
                splitter.save_vocab(new)
        splitter.load_vocab(folder)
        return cls(documents, bm25s.BM25.load(folder, mmap=True, load_vocab=False), splitter, name)

    def scores(self, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> Iterator[list[float]]:
        """Yield the scores of the documents listed for each query, by id; 0 for one that shares no word with it."""
        words = self._tokenizer.tokenize(list(queries), update_vocab=False, allow_empty=False, return_as="stream")
        for query, ids in zip(words, documents, strict=True):
            rows = self.documents.positions(ids)
            yield self._engine.get_scores(query)[rows].tolist() if query else [0.0] * len(ids)

    def positions(self, queries: Sequence[str], depth: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, as `search` finds them, row numbers in the document table (int64) and scores (float32) per query."""
        words = self._tokenizer.tokenize(list(queries), update_vocab=False, allow_empty=False, return_as="stream")
        for query in tqdm(words, desc="BM25", unit="query", total=len(queries), disable=len(queries) == 1):
            yield best_scores(self._engine.get_scores(query) if query else np.empty(0, np.float32), depth)


def _tokenizer(stemmer: str | None, words: Words) -> Tokenizer:
    if stemmer is not None and stemmer not in Stemmer.algorithms():
        algorithms = ", ".join(sorted(Stemmer.algorithms()))
        raise InputError(f"BM25: unknown stemmer {stemmer!r}; expected one of {algorithms}")
    if words not in SPLITTERS:
        raise InputError(f"BM25: expected {' or '.join(SPLITTERS)} as the tokenizer, got {words!r}")
    stopwords = "english" if stemmer == "english" else []
    stem = Stemmer.Stemmer(stemmer) if stemmer else None
    return Tokenizer(lower=True, splitter=SPLITTERS[words], stopwords=stopwords, stemmer=stem)


def word_matcher(tokenizer: Words = "words", stemmer: str | None = "english") -> Callable[[str, str], list[str]]:
    """Return a function that lists the words of a query that BM25 finds in a text, as the query spells them.

    Args:
        tokenizer, stemmer: as `BM25Index.build` takes them.
    """
    splitter = _tokenizer(stemmer, tokenizer)
    split = word_splitter(splitter)

    def match(query: str, text: str) -> list[str]:
        """List the words that both have, in the order of the query."""
        stems = set(split(text))
        words = dict.fromkeys(splitter.splitter(query.lower()))
        return [word for word in words if stems.intersection(split(word))]

    return match


def split_characters(text: str) -> list[str]:
    """Split a text into words, and into pairs of neighbouring characters where its script has no spaces.

    A single such character between others stands for itself. "abc 最高的" → abc, 最高, 高的.
    """
    tokens: list[str] = []
    for word, characters in WORD_OR_CHARACTERS.findall(text):
        if word or len(characters) == 1:
            tokens.append(word or characters)
        tokens += [characters[place : place + 2] for place in range(len(characters) - 1)]
    return tokens


SPLITTERS = {"words": WORD, "characters": split_characters}


def _engine(documents: DocumentTable, tokenizer: Tokenizer, k1: float, b: float) -> bm25s.BM25:
    texts = chain.from_iterable(map(itemgetter(1), documents.batches()))
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
