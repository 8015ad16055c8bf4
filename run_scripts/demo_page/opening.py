"""Models and indexes of a collection, opened for the page as search.py opens them: in the cache."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from m3se.run_scripts.demo import DemoArguments
from m3se.run_scripts.demo_page.comparing import TEACHER, Comparison, Judged, System, Teacher
from m3se.run_scripts.retriever.options import BM25, START
from m3se.run_scripts.work.encodings import TokenSearch, check_two_stages
from m3se.run_scripts.work.models import check_models, load
from m3se.trainers.data import BM25Index, DocumentTable, read_data, read_documents
from m3se.trainers.data.bm25 import word_matcher
from m3se.trainers.data.readers.read_data import has_split
from m3se.trainers.errors import InputError
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.loading import EMBEDDERS
from m3se.trainers.retrieval.scorers import ColBERTScorer, DenseScorer, inner_products
from m3se.trainers.retrieval.search import retrieve
from m3se.trainers.retrieval.tokens.meetings import token_meetings
from m3se.trainers.teacher.ensembles import check_weights
from m3se.trainers.teacher.loading import load_teacher


logger = logging.getLogger(__name__)

BM25_NAME = "BM25"
MOST_MODELS = 8
QUERY = "query"  # id of the one query of a search
Encodings = dict[str, tuple[DenseScorer, EmbeddedCollection]]


def check(arguments: DemoArguments) -> None:
    """Raise InputError, before any work, for options that fit nothing and for models that cannot search or teach."""
    for name in ("top", "depth", "first_depth"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name}: expected at least 1, got {getattr(arguments, name)}")
    if len(arguments.model) > MOST_MODELS:
        raise InputError(f"--model: expected at most {MOST_MODELS}, got {len(arguments.model)}")
    names = system_names(arguments)
    starts = [] if arguments.start is None else [arguments.start]
    infos = check_models([*starts, *arguments.model], arguments.dtype, arguments.pooling)
    for info in infos:
        if info.kind not in (*EMBEDDERS, "colbert"):
            raise InputError(f"--model: {info.name} is a {info.kind} model, which cannot search; make it a --teacher")
    check_two_stages(arguments, any(info.kind == "colbert" for info in infos))
    check_weights(arguments.teacher_weights, len(arguments.teacher))
    for name in arguments.teacher:
        if name == START and (arguments.start is None or infos[0].kind not in EMBEDDERS):
            raise InputError("--teacher start: name a model that embeds a text in one vector with --start")
        if Path(name).is_file():
            raise InputError(f"--teacher: {name} is a file; expected a model, which can score a new query")
        if name not in (START, BM25):
            ModelInfo.read(name)
    logger.info("searches: %s", ", ".join(names))


def system_names(arguments: DemoArguments) -> list[str]:
    """Return the names of all searches. Raises InputError when two would share one."""
    if arguments.name and len(arguments.name) != len(arguments.model):
        raise InputError(f"--name: {len(arguments.name)} names for {len(arguments.model)} models")
    names = [BM25_NAME] + [START] * (arguments.start is not None)
    names += arguments.name or [Path(model).name for model in arguments.model]
    for name in [*names, TEACHER]:
        if [*names, TEACHER].count(name) > 1:
            raise InputError(f"--name: {name!r} would stand for two searches; give each model a name of its own")
    return names


def open_comparison(arguments: DemoArguments) -> tuple[Comparison, Encodings]:
    """Open the collection and everything that searches it.

    Returns:
        The comparison, and the embeddings of those systems that embed a text in one vector, by name.

    Raises:
        InputError: the collection or a model cannot be read.
    """
    documents, judged = open_collection(arguments)
    options = {"cache_dir": arguments.cache_dir, "tokenizer": arguments.bm25_tokenizer}
    bm25 = BM25Index.build(documents, **options)
    systems, encodings = [System(BM25_NAME, partial(search_words, bm25))], {}
    scores: dict[str, Callable] = {BM25: partial(score_words, bm25)}
    folders = [*([] if arguments.start is None else [arguments.start]), *arguments.model]
    for name, folder in zip(system_names(arguments)[1:], folders, strict=True):
        scorer = load(folder, arguments.dtype, arguments.pooling)
        if isinstance(scorer, ColBERTScorer):
            systems.append(colbert_system(arguments, name, scorer, documents))
            continue
        encoded = cached_encoding(scorer, documents, arguments.cache_dir)
        systems.append(System(name, partial(search_vectors, scorer, encoded)))
        scores[name] = partial(score_vectors, scorer, encoded, documents)
        encodings[name] = scorer, encoded
    teachers = [open_teacher(name, arguments, documents, scores) for name in arguments.teacher]
    reference = BM25_NAME if arguments.start is None else START
    weights, match = arguments.teacher_weights or None, word_matcher(arguments.bm25_tokenizer)
    sizes = arguments.top, arguments.depth
    return Comparison(documents, systems, reference, teachers, weights, judged, match, *sizes), encodings


def open_collection(arguments: DemoArguments) -> tuple[DocumentTable, Judged]:
    """Read the documents, and the queries of the split with their judgments where the data have it."""
    if has_split(arguments.data, arguments.split):
        collection = read_data(arguments.data, arguments.split, arguments.cache_dir)
        return collection.documents, Judged(collection.queries, collection.qrels)
    logger.info("%s has no judgments of %s: none are shown", arguments.data, arguments.split)
    return read_documents(arguments.data, arguments.cache_dir, arguments.split), Judged({}, {})


def colbert_system(arguments: DemoArguments, name: str, scorer: ColBERTScorer, documents: DocumentTable) -> System:
    """Open the two-stage search of a ColBERT."""
    options = replace(arguments, first_stage=arguments.first_stage or BM25)
    search = TokenSearch(options, scorer, documents)
    return System(name, partial(search_tokens, search), partial(token_meetings, scorer))


def open_teacher(
    name: str, arguments: DemoArguments, documents: DocumentTable, scores: dict[str, Callable]
) -> Teacher:
    """Load a teacher, or take the scores of BM25 or the start.

    Args:
        name: of the teacher.
        arguments: the number format.
        documents: the texts.
        scores: functions of BM25 and the start.
    """
    if name in (BM25, START):
        return Teacher(scores[name], name)
    teacher = load_teacher(name, None if arguments.dtype == "auto" else arguments.dtype)

    def score(query: str, ids: list[str]) -> np.ndarray:
        """Score documents for a query."""
        with tqdm(disable=True) as bar:
            return teacher.score([query] * len(ids), documents.texts(ids), bar=bar)

    return Teacher(score, teacher.scale)


def search_words(bm25: BM25Index, query: str, depth: int) -> dict[str, float]:
    """Search with BM25."""
    ids, scores = bm25.search([query], depth)
    return dict(zip(ids[0], scores[0], strict=True))


def search_vectors(scorer: DenseScorer, encoded: EmbeddedCollection, query: str, depth: int) -> dict[str, float]:
    """Search the embeddings of the collection."""
    return retrieve(scorer, {QUERY: query}, encoded, depth, progress=False)[QUERY]


def search_tokens(search: TokenSearch, query: str, depth: int) -> dict[str, float]:
    """Search with ColBERT."""
    return search.search({QUERY: query}, depth)[QUERY]


def score_words(bm25: BM25Index, query: str, ids: list[str]) -> list[float]:
    """Score documents with BM25."""
    return next(bm25.scores([query], [ids]))


def score_vectors(
    scorer: DenseScorer, encoded: EmbeddedCollection, documents: DocumentTable, query: str, ids: list[str]
) -> np.ndarray:
    """Score documents by their embeddings.

    Args:
        scorer: embeds the query.
        encoded: the collection.
        documents: the texts that were embedded.
        query: its text.
        ids: of the documents.
    """
    (vector,) = scorer.encode([query], "query")
    return scorer.scale * inner_products(vector, encoded.embeddings(documents.positions(ids)))
