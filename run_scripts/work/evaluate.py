"""Rankers measured: re-ranking the same candidate lists, or searching a whole collection."""

import logging
import math
import re
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np

from m3se.run_scripts.evaluate import EvaluationArguments
from m3se.run_scripts.work.candidates import (
    NAMED,
    build_bm25,
    find_candidates,
    is_folder,
    is_run_file,
    open_collection,
)
from m3se.run_scripts.work.encodings import TokenSearch, check_two_stages
from m3se.run_scripts.work.models import COMPARED, check_models, compile_ranker, describe_int8, load
from m3se.trainers.backends.choice import choose_backend
from m3se.trainers.backends.samples import HALF
from m3se.trainers.data import Collection, RankingLists
from m3se.trainers.data.candidates import identical_ids, ranked_candidates
from m3se.trainers.data.lists import make_row
from m3se.trainers.data.schema import ROW_FEATURES
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.report import System, markdown_table, write_system
from m3se.trainers.evaluation.reranking import Candidates, run_from_scores
from m3se.trainers.evaluation.run_metrics import MEASURES, Evaluation, Qrels, check_measures, evaluate_run
from m3se.trainers.evaluation.runs import Run, check_collection, check_ids, without_identical
from m3se.trainers.evaluation.significance import compare
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.retrieval.encode_collection import cached_encoding, complete_encoding
from m3se.trainers.retrieval.faiss_index import new_index
from m3se.trainers.retrieval.loading import EMBEDDERS
from m3se.trainers.retrieval.scorers import ColBERTScorer, DenseScorer, Scorer
from m3se.trainers.retrieval.search import encoded_scores, retrieve, retrieve_by_index, retrieve_by_scoring
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.storage.atomic import refuse_unwritable, write_text
from m3se.trainers.stores.connection import check_store
from m3se.trainers.stores.document_store import EXACT, open_store
from m3se.trainers.stores.searching import retrieve_from_store
from m3se.trainers.teacher.annotate import list_sizes
from m3se.trainers.teacher.cross_fitting import fold_folders
from m3se.trainers.teacher.ensembles import combine


logger = logging.getLogger(__name__)

MEAN = "mean"  # the row of --mean_weights
DEPTH = 20  # BM25 candidates of a query that int8 is measured on


def main(arguments: EvaluationArguments) -> list[System]:
    """Measure every model, and write and print the table."""
    check(arguments)
    systems, setting = retrieved(arguments) if arguments.retrieve else reranked(arguments)
    baseline = arguments.baseline or (row_names(arguments)[0] if arguments.model else None)
    evaluations = {system.name: system.evaluation for system in systems}
    comparison = compare(evaluations, baseline if len(systems) > 1 else None)
    output = Path(arguments.output)
    for system in systems:
        write_system(output / row_folder(arguments, system), system, setting, comparison)
    columns = list(systems[0].evaluation.values) if arguments.metrics else None
    table = markdown_table(systems, setting, comparison, columns)
    write_text(output / "table.md", table)
    print(table)
    for system in systems:
        if "int8" in system.facts:
            print(describe_int8(system.name, system.facts))
    return systems


def reranked(arguments: EvaluationArguments) -> tuple[list[System], dict]:
    """Measure each model on the candidates, after the candidates' own order if it is known."""
    candidates = find_candidates(arguments)
    rows = candidates.lists.rows
    check_ids(rows["query_id"], set(chain.from_iterable(rows["document_ids"])))
    systems, backend = [], choose_backend(arguments.backend, arguments.dtype)
    if candidates.run is not None:
        evaluation = evaluated(arguments, candidates.run, candidates.qrels)
        systems.append(System(candidates.ranker, candidates.ranker, candidates.run, evaluation))
    for model, name in zip(arguments.model, row_names(arguments), strict=True):
        scorer = load(model, backend.loaded_dtype, arguments.pooling, arguments.template, backend.device)
        facts = compile_ranker(scorer, backend, candidates.lists, candidates.qrels, arguments.cache_dir)
        scores, measured = score_lists(scorer, candidates.lists, arguments.cache_dir)
        run_ = run_from_scores(candidates.lists, scores)
        systems.append(System(name, model, run_, evaluated(arguments, run_, candidates.qrels), measured | facts))
    if arguments.mean_weights:
        systems.append(mean_system(arguments, candidates, systems))
    setting = {"data": Path(arguments.data).name, "split": arguments.split, "candidates": candidates.name}
    if is_folder(arguments.candidates):  # lists know of no split
        setting |= {"data": Path(arguments.candidates).name, "split": None}
    setting |= {"candidate_recall": candidates.recall, "depth": candidates.depth, "dtype": arguments.dtype}
    return systems, setting | left_out(candidates.identical)


def mean_system(arguments: EvaluationArguments, candidates: Candidates, systems: list[System]) -> System:
    """Measure the mean of the systems' scores, standardised within each list, with the weights of the options."""
    rows, columns = candidates.lists.rows, []
    for system in systems:
        scores = [list(map(system.run[row["query_id"]].__getitem__, row["document_ids"])) for row in rows]
        columns.append(np.concatenate(scores))
    sizes = list_sizes(rows)
    means, _ = combine(columns, [system.name for system in systems], sizes, arguments.mean_weights)
    run_ = run_from_scores(candidates.lists, [part.tolist() for part in np.split(means, np.cumsum(sizes)[:-1])])
    names = (system.name for system in systems)
    facts = {"mean_of": dict(zip(names, arguments.mean_weights, strict=True))}
    return System(MEAN, MEAN, run_, evaluated(arguments, run_, candidates.qrels), facts)


def score_lists(scorer: Scorer, lists: RankingLists, cache_dir: str) -> tuple[list[list[float]], dict]:
    """Score the documents of lists, and say how many a second: not where the cache has their embeddings already.

    An encoding in fewer bits than float32 is left alone: to read it would change the scores.
    """
    encoded = None
    if isinstance(scorer, DenseScorer):
        encoded = complete_encoding(scorer, lists.documents, cache_dir)
    if encoded is not None and encoded.description["format"] == "float32":
        logger.info("The documents' embeddings come from %s.", encoded.folder)
        return list(encoded_scores(scorer, encoded, lists.documents, lists.rows)), {}
    start = time.perf_counter()
    scores = scorer.score_lists(lists)
    return scores, {"documents_per_second": round(sum(map(len, scores)) / (time.perf_counter() - start), 1)}


def retrieved(arguments: EvaluationArguments) -> tuple[list[System], dict]:
    """Let BM25 and each model search the whole collection, and measure them."""
    collection = open_collection(arguments)
    check_collection(collection)
    identical = set() if arguments.keep_identical_ids else identical_ids(collection)
    index = build_bm25(arguments, collection)
    queries, keep = list(collection.queries), arguments.keep_identical_ids
    ranked = ranked_candidates(index, collection, queries, arguments.depth, keep)
    run_ = {query: dict(zip(ids, scores, strict=True)) for query, ids, scores in ranked}
    backend = choose_backend(arguments.backend, arguments.dtype)
    lists = None if backend.is_torch else first_lists(collection, run_)
    systems = [System("BM25", "BM25", run_, evaluated(arguments, run_, collection.qrels, collection.queries))]
    for model, name in zip(arguments.model, row_names(arguments), strict=True):
        scorer = load(model, backend.loaded_dtype, arguments.pooling, arguments.template, backend.device)
        moved = compile_ranker(scorer, backend, lists, collection.qrels, arguments.cache_dir)
        run_, facts = search_all(arguments, scorer, collection, arguments.depth + bool(identical))
        run_ = without_identical(run_, identical, arguments.depth)
        evaluation = evaluated(arguments, run_, collection.qrels, collection.queries)
        systems.append(System(name, model, run_, evaluation, facts | moved))
    setting = {"data": Path(arguments.data).name, "split": arguments.split, "depth": arguments.depth}
    setting |= {"candidates": f"all {len(collection.documents):,} documents", "dtype": arguments.dtype}
    return systems, setting | left_out(len(identical))


def first_lists(collection: Collection, run_: Run) -> RankingLists:
    """Return the candidates of the first queries of a run as ranking lists, on which int8 is measured."""
    queries = list(run_)[: HALF + COMPARED]
    rows = (make_row(collection, query, list(run_[query])[:DEPTH]) for query in queries if run_[query])
    return RankingLists(write_rows(rows, ROW_FEATURES), collection.documents)


def left_out(identical: int) -> dict:
    """Return the entry of the setting for documents that have the id of their query, if there are any."""
    return {"identical_ids_left_out": identical} if identical else {}


def search_all(arguments: EvaluationArguments, scorer: Scorer, collection: Collection, depth: int) -> tuple[Run, dict]:
    """Search the whole collection for the best `depth` documents; with facts about how they were found."""
    queries = collection.queries
    if isinstance(scorer, ColBERTScorer) and arguments.first_stage:
        stages = TokenSearch(arguments, scorer, collection.documents)
        run_ = stages.search(queries, depth)
        return run_, stages.facts(queries, run_, depth)
    if not isinstance(scorer, DenseScorer):
        return retrieve_by_scoring(scorer, queries, collection.documents, depth), {}
    if arguments.store is not None:
        return search_database(arguments, scorer, collection, depth)
    encoded = cached_encoding(scorer, collection.documents, arguments.cache_dir)
    facts = {"number_format": encoded.description["format"]}
    if arguments.index is None:
        return retrieve(scorer, queries, encoded, depth), facts
    run_, recall = retrieve_by_index(scorer, queries, encoded, depth, arguments.index, arguments.probes)
    return run_, {**facts, "index": arguments.index, "probes": arguments.probes, "index_recall": recall}


def search_database(
    arguments: EvaluationArguments, scorer: DenseScorer, collection: Collection, depth: int
) -> tuple[Run, dict]:
    """Search as `search_all` does, in a database; its recall is known where the same embeddings are in the cache."""
    with open_store(arguments.store, arguments.store_name, scorer.side_fingerprint("document")) as store:
        encoded = None
        if len(store) == len(collection.documents) and store.index_type != EXACT:
            encoded = complete_encoding(scorer, collection.documents, arguments.cache_dir)
        run_, recall = retrieve_from_store(scorer, collection.queries, store, depth, arguments.effort, encoded)
        facts = {"store": arguments.store, "index": store.index_type, "effort": arguments.effort}
        return run_, facts | ({} if recall is None else {"index_recall": recall})


def evaluated(arguments: EvaluationArguments, run_: Run, qrels: Qrels, queries=None) -> Evaluation:
    """Measure a run by the measures that were asked for."""
    default = (*MEASURES, "Recall@1000") if arguments.depth >= 1000 else MEASURES
    return evaluate_run(run_, qrels, queries, arguments.metrics or default, arguments.relevance_level)


def check(arguments: EvaluationArguments) -> None:
    """Find mistakes before anything is built or scored."""
    rows = [*first_row(arguments), *row_names(arguments)]
    for option_ in ("depth", "max_queries"):
        value = getattr(arguments, option_)
        if value is not None and value < 1:
            raise InputError(f"--{option_}: expected at least 1, got {value}")
    if arguments.candidates not in NAMED and not Path(arguments.candidates).exists():
        raise InputError(
            f"--candidates: {arguments.candidates} does not exist; expected bm25, own, a file or a folder"
        )
    if arguments.baseline not in (None, *rows):
        raise InputError(f"--baseline: no row is called {arguments.baseline!r}; there are {', '.join(rows)}")
    if arguments.qrels and is_folder(arguments.candidates):
        raise InputError("--qrels: ranking lists are judged by their own labels")
    check_mean(arguments, len(rows))
    check_measures(arguments.metrics, arguments.relevance_level)
    refuse_unwritable(Path(arguments.output))
    backend = choose_backend(arguments.backend, arguments.dtype)
    if not backend.is_torch and any(map(fold_folders, arguments.model)):
        raise InputError("--backend: the folds of a teacher are computed by torch only")
    models = check_models(arguments.model, backend.loaded_dtype, arguments.pooling, arguments.template)
    check_index(arguments, models)


def check_mean(arguments: EvaluationArguments, rows: int) -> None:
    """Raise InputError for weights of a mean that are not one for each of the rows, or of a search."""
    weights = arguments.mean_weights
    if not weights:
        return
    if arguments.retrieve:
        raise InputError("--mean_weights: for re-ranking, where all rows score the same documents; not for --retrieve")
    if len(weights) != rows or not all(0 <= weight < math.inf for weight in weights) or sum(map(bool, weights)) < 2:
        names = ", ".join([*first_row(arguments), *row_names(arguments)])
        got = " ".join(f"{weight:g}" for weight in weights)
        raise InputError(
            f"--mean_weights: expected a number for each of {names}, two of them above 0 at least, got {got}"
        )


def check_index(arguments: EvaluationArguments, models: list[ModelInfo]) -> None:
    """Raise InputError for an index that cannot be built for one of the models."""
    if not arguments.retrieve and (arguments.index or arguments.probes):
        raise InputError("--index and --probes are for --retrieve")
    check_two_stages(arguments, any(info.kind == "colbert" for info in models) and arguments.retrieve)
    if arguments.store:
        check_database(arguments, models)
    elif arguments.effort:
        raise InputError("--effort is for --store")
    if arguments.probes and not arguments.index:
        raise InputError("--probes: say with --index in which index")
    for info in models:
        logger.info("%s: %s model", info.name, info.kind)
        if arguments.index and info.kind in EMBEDDERS and info.width is not None:
            new_index(info.width, arguments.index, arguments.probes)


def check_database(arguments: EvaluationArguments, models: list[ModelInfo]) -> None:
    """Raise InputError unless one model that embeds is to search the database."""
    if not arguments.retrieve or arguments.index or len(models) != 1 or models[0].kind not in EMBEDDERS:
        raise InputError("--store: goes with --retrieve, without --index, and with one model that embeds a text")
    check_store(arguments.store)


def row_names(arguments: EvaluationArguments) -> list[str]:
    """Return one name per model. Raises InputError when two rows of the table would share one."""
    if arguments.name and len(arguments.name) != len(arguments.model):
        raise InputError(f"--name: {len(arguments.name)} names for {len(arguments.model)} models")
    names = arguments.name or [Path(model).name for model in arguments.model]
    added = [*first_row(arguments), *([MEAN] if arguments.mean_weights else [])]
    rows = Counter(map(folder_name, [*names, *added]))
    for name in names:
        if rows[folder_name(name)] > 1:
            raise InputError(f"--name: {name!r} would stand for two rows of the table; give each model its own name")
    return names


def first_row(arguments: EvaluationArguments) -> list[str]:
    """Return the name of the row above the models', that of who found the candidates, if there is one."""
    if arguments.retrieve or arguments.candidates == "bm25":
        return ["BM25"]
    return [Path(arguments.candidates).stem] if is_run_file(arguments.candidates) else []


def row_folder(arguments: EvaluationArguments, system: System) -> str:
    """Return where a row's files go, below the output folder."""
    alone = len(arguments.model) == 1 and not arguments.name
    return "." if alone and system.source == arguments.model[0] else folder_name(system.name)


def folder_name(name: str) -> str:
    """Return a name as one of a folder: lower case, without white space and signs."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"
