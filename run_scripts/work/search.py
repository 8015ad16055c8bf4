"""The best documents of a few queries, from a collection's embeddings or from a database."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from m3se.run_scripts.search import SearchArguments, is_plain, show
from m3se.run_scripts.work.encodings import BM25, TokenSearch, check_two_stages, open_encoding
from m3se.run_scripts.work.models import compile_searcher, load_searcher
from m3se.trainers.backends.choice import INT8
from m3se.trainers.data import DocumentTable, read_documents
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.hits import Answers, Hit
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.retrieval.prepared.preparing import prepare_search
from m3se.trainers.retrieval.search import retrieve
from m3se.trainers.stores.connection import check_store
from m3se.trainers.stores.document_store import open_store


def main(arguments: SearchArguments, queries: list[str]) -> None:
    """Print the best documents of every query."""
    if arguments.store is not None:
        show(search_store(arguments, queries), queries)
    elif ModelInfo.read(arguments.model).kind == "colbert":
        show(search_tokens(arguments, queries), queries)
    else:
        search_embeddings(arguments, queries)


def search_embeddings(arguments: SearchArguments, queries: list[str]) -> None:
    """Search the embeddings of the data, which are made where they are missing, and prepare later searches."""
    check_two_stages(arguments, has_colbert=False)
    scorer, backend = load_searcher(arguments)
    documents = read_documents(arguments.data, arguments.cache_dir, arguments.split)
    compile_searcher(scorer, backend, documents, arguments.cache_dir)
    collection = open_encoding(arguments, scorer, documents)
    search = partial(retrieve, scorer, collection=collection, progress=False)
    show(timed(search, queries, arguments.top, documents), queries)
    if is_plain(arguments):
        names = {"model": arguments.model, "data": arguments.data, "split": arguments.split}
        prepare_search(scorer, collection, documents, arguments.cache_dir, **names)


def prepare(model: str, data: str, cache_dir: str) -> None:
    """Embed a collection where the cache lacks that, and prepare searches of it by a model."""
    scorer, documents = load_embedder(model), read_documents(data, cache_dir)
    prepare_search(scorer, cached_encoding(scorer, documents, cache_dir), documents, cache_dir, model=model, data=data)


def search_tokens(arguments: SearchArguments, queries: list[str]) -> Answers:
    """Search the token embeddings of the data with ColBERT; they are made where they are missing."""
    check_two_stages(arguments, has_colbert=True)
    scorer, backend = load_searcher(arguments, allow_colbert=True)
    documents = read_documents(arguments.data, arguments.cache_dir, arguments.split)
    compile_searcher(scorer, backend, documents, arguments.cache_dir)
    arguments = replace(arguments, first_stage=arguments.first_stage or BM25)
    return timed(TokenSearch(arguments, scorer, documents).search, queries, arguments.top, documents)


def timed(search: Callable[..., Run], queries: list[str], k: int, documents: DocumentTable) -> Answers:
    """Call a search with queries by id and k, and return the documents that it finds, with their texts."""
    started = time.perf_counter()
    run = search(queries=dict(zip(queries, queries, strict=True)), k=k)
    seconds = time.perf_counter() - started
    hits = []
    for query in queries:
        texts = documents.texts(list(run[query]))
        hits.append([Hit(*scored, text) for scored, text in zip(run[query].items(), texts, strict=True)])
    return Answers(hits, len(documents), seconds)


def search_store(arguments: SearchArguments, queries: list[str]) -> Answers:
    """Search the documents of a database; --dtype int8 needs --data too, the collection that it was filled from."""
    check_store(arguments.store)
    scorer, backend = load_searcher(arguments)
    is_int8 = backend.dtype == INT8
    documents = read_documents(arguments.data, arguments.cache_dir, arguments.split) if is_int8 else None
    compile_searcher(scorer, backend, documents, arguments.cache_dir)
    with open_store(arguments.store, arguments.store_name, scorer.side_fingerprint("document")) as store:
        count, started = len(store), time.perf_counter()
        vectors = scorer.encode(queries, "query")
        options = {"where": arguments.where or "", "effort": arguments.effort, "with_texts": True}
        hits = list(store.search(vectors, arguments.top, **options))
        return Answers(hits, count, time.perf_counter() - started)
