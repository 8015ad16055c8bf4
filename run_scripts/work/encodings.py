"""The embeddings that search.py, evaluate.py, index.py and mine.py look through."""

from pathlib import Path

import numpy as np

from m3se.run_scripts.cli.arguments import SearchedArguments, TwoStageArguments
from m3se.trainers.backends.choice import choose_backend
from m3se.trainers.data import BM25Index, DocumentTable, hash_subset
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.loading import EMBEDDERS, load_embedder
from m3se.trainers.retrieval.scorers import ColBERTScorer, DenseScorer
from m3se.trainers.retrieval.search import run_from_rows
from m3se.trainers.retrieval.tokens.token_collection import TokenCollection, cached_tokens, check_token_options
from m3se.trainers.retrieval.tokens.two_stages import (
    FirstStage,
    bm25_stage,
    dense_stage,
    retrieve_from_tokens,
    retrieve_in_two_stages,
)


BM25, ALL = "bm25", "all"  # first stages that are no model
QUERIES_COMPARED = 32  # with MaxSim over every document
BEST_COMPARED = 10


def check_two_stages(arguments: TwoStageArguments, has_colbert: bool) -> None:
    """Raise InputError for a first stage that is none, and for one without a ColBERT model that searches."""
    if arguments.first_stage is None:
        return
    if not has_colbert:
        raise InputError("--first_stage: proposes documents to a ColBERT model that searches a collection")
    if arguments.first_depth < 1:
        raise InputError(f"--first_depth: expected at least 1, got {arguments.first_depth}")
    check_token_options(arguments.token_format, arguments.pool_factor)
    if arguments.first_stage not in (BM25, ALL) and ModelInfo.read(arguments.first_stage).kind not in EMBEDDERS:
        raise InputError(f"--first_stage: expected bm25, all or a model that embeds, got {arguments.first_stage!r}")


def open_encoding(arguments: SearchedArguments, scorer: DenseScorer, documents: DocumentTable) -> EmbeddedCollection:
    """Open the folder of `--encoding`, or that in the cache, where what is missing is embedded first.

    Raises InputError when the folder holds the embeddings of another model or of other documents.
    """
    if arguments.encoding is None:
        return cached_encoding(scorer, documents, arguments.cache_dir)
    encoded = EmbeddedCollection(arguments.encoding)
    encoded.check(scorer.side_fingerprint("document"), documents.fingerprint)
    return encoded


def open_tokens(arguments: TwoStageArguments, scorer: ColBERTScorer, documents: DocumentTable) -> TokenCollection:
    """Open the tokens of a collection as `open_encoding` opens its embeddings."""
    folder = getattr(arguments, "encoding", None)
    if folder is None:
        options = arguments.token_format, arguments.pool_factor
        return cached_tokens(scorer, documents, arguments.cache_dir, *options)
    tokens = TokenCollection(folder)
    tokens.check(scorer.fingerprint, documents.fingerprint)
    return tokens


def open_first_stage(arguments: TwoStageArguments, documents: DocumentTable) -> FirstStage:
    """Open the search that proposes documents: BM25, or a model that embeds a text in one vector."""
    if arguments.first_stage == BM25:
        options = {"cache_dir": arguments.cache_dir, "tokenizer": arguments.bm25_tokenizer}
        return bm25_stage(BM25Index.build(documents, **options))
    backend = choose_backend(arguments.backend, arguments.dtype)  # of ColBERT; torch computes this model
    scorer = load_embedder(arguments.first_stage, backend.loaded_dtype, device=backend.device)
    return dense_stage(scorer, cached_encoding(scorer, documents, arguments.cache_dir))


class TokenSearch:
    """ColBERT's search of a collection by stored tokens: of all documents, or of those that a first stage proposes.

    Args:
        arguments: the first stage, and the format of the tokens.
        scorer: embeds queries and documents.
        documents: the texts.
    """

    def __init__(self, arguments: TwoStageArguments, scorer: ColBERTScorer, documents: DocumentTable):
        self.scorer, self.documents = scorer, documents
        self.tokens = open_tokens(arguments, scorer, documents)
        self.name, self.depth = arguments.first_stage, arguments.first_depth
        self.stage = None if self.name == ALL else open_first_stage(arguments, documents)

    def search(self, queries: dict[str, str], k: int) -> Run:
        """Find the best k documents of every query (id → text)."""
        texts = list(queries.values())
        if self.stage is None:
            scores, rows = retrieve_from_tokens(self.scorer, texts, self.tokens, k)
        else:
            scores, rows = retrieve_in_two_stages(self.scorer, texts, self.tokens, self.stage, self.depth, k)
        return run_from_rows(list(queries), scores, rows, self.documents.ids_at)

    def facts(self, queries: dict[str, str], run: Run, k: int) -> dict:
        """Describe the search, with the share of MaxSim's best documents of all that are best in the run too.

        That share is of the 10 best documents (k if these are fewer) of at most 32 queries, which are compared with
        every document.

        Args:
            queries: id → text.
            run: what `search` returned for them.
            k: documents of a query that were asked for.
        """
        facts = {"first_stage": self.name, "number_format": self.tokens.description["format"]}
        facts["pool_factor"] = self.tokens.description["pool_factor"]
        if self.stage is None:
            return facts
        chosen = sorted(hash_subset(queries, QUERIES_COMPARED))
        texts = list(map(queries.__getitem__, chosen))
        _, exact = retrieve_from_tokens(self.scorer, texts, self.tokens, min(k, BEST_COMPARED))
        shares = []
        for query, rows in zip(chosen, exact, strict=True):
            best = list(run[query])[: len(rows)]
            shares.append(len(set(best).intersection(self.documents.ids_at(rows))) / len(rows))
        name = Path(self.name).name if Path(self.name).exists() else self.name
        return facts | {"index": f"{name}, {self.depth} documents", "index_recall": float(np.mean(shares))}
