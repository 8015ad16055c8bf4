"""The best documents of a few queries, from a collection's embeddings or from a database."""

import time
from dataclasses import replace
from functools import partial
from textwrap import shorten
from typing import NamedTuple

from m3se.run_scripts.search import SearchArguments
from m3se.run_scripts.work.backends import compile_searcher, load_searcher
from m3se.run_scripts.work.encodings import BM25, TokenSearch, check_two_stages, open_encoding
from m3se.trainers.backends.choice import INT8
from m3se.trainers.data import read_documents
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.search import retrieve
from m3se.trainers.stores.connection import check_store
from m3se.trainers.stores.document_store import Hit, open_store


class Answers(NamedTuple):
    """The documents of each query, best first; how many were searched, and in how many seconds."""

    hits: list[list[Hit]]
    documents: int
    seconds: float


def main(arguments: SearchArguments, queries: list[str]) -> None:
    """Print the best documents of every query."""
    answers = search_collection(arguments, queries) if arguments.store is None else search_store(arguments, queries)
    print(f"{answers.documents:,} documents searched in {answers.seconds:.2f} s")
    for query, hits in zip(queries, answers.hits, strict=True):
        print(f"\n{query}")
        for rank, hit in enumerate(hits, start=1):
            print(f"{rank:3d}. {hit.score:9.3f}  {hit.id}\n{'':16}{shorten(hit.text.removeprefix(hit.id), 100)}")


def search_collection(arguments: SearchArguments, queries: list[str]) -> Answers:
    """Search the embeddings of the data, which are made where they are missing."""
    has_colbert = ModelInfo.read(arguments.model).kind == "colbert"
    check_two_stages(arguments, has_colbert)
    scorer, backend = load_searcher(arguments, allow_colbert=True)
    documents = read_documents(arguments.data, arguments.cache_dir, arguments.split)
    compile_searcher(scorer, backend, documents, arguments.cache_dir)
    texts = dict(zip(queries, queries, strict=True))
    if has_colbert:
        arguments = replace(arguments, first_stage=arguments.first_stage or BM25)
        search = TokenSearch(arguments, scorer, documents).search
    else:
        search = partial(retrieve, scorer, collection=open_encoding(arguments, scorer, documents), progress=False)
    started = time.perf_counter()
    run_ = search(queries=texts, k=arguments.top)
    seconds = time.perf_counter() - started
    hits = []
    for query in queries:
        texts = documents.texts(list(run_[query]))
        hits.append([Hit(*scored, text) for scored, text in zip(run_[query].items(), texts, strict=True)])
    return Answers(hits, len(documents), seconds)


def search_store(arguments: SearchArguments, queries: list[str]) -> Answers:
    """Search the documents of a database; --dtype int8 needs --data too, the collection that it was filled from."""
    check_store(arguments.store)
    scorer, backend = load_searcher(arguments)
    is_int8 = backend.dtype == INT8
    documents = read_documents(arguments.data, arguments.cache_dir, arguments.split) if is_int8 else None
    compile_searcher(scorer, backend, documents, arguments.cache_dir)
    with open_store(arguments.store, arguments.store_name, scorer.fingerprint) as store:
        count, started = len(store), time.perf_counter()
        vectors = scorer.encode(queries, "query")
        options = {"where": arguments.where or "", "effort": arguments.effort, "with_texts": True}
        hits = list(store.search(vectors, arguments.top, **options))
        return Answers(hits, count, time.perf_counter() - started)
