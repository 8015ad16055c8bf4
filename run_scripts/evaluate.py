r"""Measure rankers, re-ranking the same candidate lists or searching a whole collection: one table, and a run file and
metrics for each.

    python run_scripts/evaluate.py --model outputs/quickstart/teacher outputs/quickstart/de-m3se --name CA "DE M3SE" \
        --data pydocs --split test --candidates bm25 --depth 50 --output outputs/evaluation

A single model without a --name leaves its files in the output folder itself, every other row in a folder of its name.
"""

import logging
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser

from m3se.run_scripts.cli.app import run
from m3se.trainers.data import BM25Index, Collection, RankingLists, read_data
from m3se.trainers.data.schema import hash_subset
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.report import System, markdown_table, write_system
from m3se.trainers.evaluation.reranking import (
    Candidates,
    bm25_candidates,
    bm25_run,
    brought_candidates,
    file_candidates,
    list_candidates,
    run_from_scores,
)
from m3se.trainers.evaluation.run_metrics import MEASURES, Evaluation, Qrels, evaluate_run
from m3se.trainers.evaluation.runs import Run, check_ids, is_trec_run
from m3se.trainers.evaluation.significance import compare
from m3se.trainers.retrieval.embedded_collection import cached_encoding
from m3se.trainers.retrieval.exact_search import retrieve, retrieve_by_index, retrieve_by_scoring
from m3se.trainers.retrieval.faiss_index import new_index
from m3se.trainers.retrieval.loading import EMBEDDERS, POOLINGS, compute_dtype, embedding_size, load_scorer, model_kind
from m3se.trainers.retrieval.scorers import DenseScorer, Scorer
from m3se.trainers.storage.atomic import refuse_unwritable, write_text


logger = logging.getLogger(__name__)

NAMED = ("bm25", "own")  # candidates that are no path


@dataclass
class EvaluationArguments:
    output: str = field(metadata={"help": "Folder for table.md and, for each of its rows, a run and its metrics."})
    model: list[str] = field(default_factory=list, metadata={"help": "Model folders or Hub ids; none: only BM25."})
    name: list[str] = field(
        default_factory=list, metadata={"help": "Their names in the table (default: of the folder)."}
    )
    data: str = field(default="pydocs", metadata={"help": "pydocs, or another collection."})
    split: str = field(default="test", metadata={"help": "Which queries of the data."})
    candidates: str = field(
        default="bm25",
        metadata={
            "help": "bm25; own: lists that the data bring; a TREC run or another file of lists; or a folder of "
            "ranking lists (then --data is not read)."
        },
    )
    qrels: str | None = field(default=None, metadata={"help": "File of judgments (default: the data's own)."})
    allow_missing: bool = field(
        default=False, metadata={"help": "Leave out judgments and candidates that name unknown documents."}
    )
    depth: int = field(default=100, metadata={"help": "Candidates of a query."})
    max_queries: int | None = field(
        default=None, metadata={"help": "Only so many queries, the first by hash of their id."}
    )
    retrieve: bool = field(default=False, metadata={"help": "Search the whole collection instead of re-ranking."})
    index: str | None = field(
        default=None, metadata={"help": "FAISS factory string such as IVF4096,PQ64 (default: exact search)."}
    )
    probes: int | None = field(default=None, metadata={"help": "Cells of an IVF index that are looked at."})
    baseline: str | None = field(
        default=None, metadata={"help": "Row that the others are tested against (default: the first model)."}
    )
    relevance_level: int = field(
        default=1, metadata={"help": "Grade from which MRR and Recall count a document; TREC Deep Learning uses 2."}
    )
    dtype: str = field(default="auto", metadata={"help": "float32, bfloat16, or auto: bfloat16 where it is fast."})
    pooling: str | None = field(default=None, metadata={"help": "cls or mean, for those that are bare encoders."})
    cache_dir: str = field(default="outputs/cache", metadata={"help": "Where prepared collections and indexes go."})


def make_parser() -> HfArgumentParser:
    return HfArgumentParser(EvaluationArguments, description=__doc__)


def main(arguments: EvaluationArguments) -> list[System]:
    check(arguments)
    systems, setting = retrieved(arguments) if arguments.retrieve else reranked(arguments)
    baseline = arguments.baseline or (row_names(arguments)[0] if arguments.model else None)
    evaluations = {system.name: system.evaluation for system in systems}
    comparison = compare(evaluations, baseline if len(systems) > 1 else None)
    output = Path(arguments.output)
    for system in systems:
        write_system(output / row_folder(arguments, system), system, setting, comparison)
    table = markdown_table(systems, setting, comparison)
    write_text(output / "table.md", table)
    print(table)
    return systems


def reranked(arguments: EvaluationArguments) -> tuple[list[System], dict]:
    """A row for each model that scores the candidates, after one for the candidates' own order if it is known."""
    candidates = find_candidates(arguments)
    rows = candidates.lists.rows
    check_ids(rows["query_id"], {name for names in rows["document_ids"] for name in names})
    systems = []
    if candidates.run is not None:
        evaluation = evaluated(arguments, candidates.run, candidates.qrels)
        systems.append(System(candidates.ranker, candidates.ranker, candidates.run, evaluation))
    for model, name in zip(arguments.model, row_names(arguments), strict=True):
        scorer = load(model, arguments.dtype, arguments.pooling)
        start = time.perf_counter()
        run_ = run_from_scores(candidates.lists, scorer.score_lists(candidates.lists))
        speed = sum(map(len, run_.values())) / (time.perf_counter() - start)
        evaluation = evaluated(arguments, run_, candidates.qrels)
        systems.append(System(name, model, run_, evaluation, {"documents_per_second": round(speed, 1)}))
    setting = {"data": Path(arguments.data).name, "split": arguments.split, "candidates": candidates.name}
    if is_folder(arguments.candidates):  # lists know of no split
        setting |= {"data": Path(arguments.candidates).name, "split": None}
    setting |= {"candidate_recall": candidates.recall, "depth": arguments.depth, "dtype": arguments.dtype}
    return systems, setting


def retrieved(arguments: EvaluationArguments) -> tuple[list[System], dict]:
    """A row for BM25 and for each model, each searching the whole collection."""
    collection = open_collection(arguments)
    index = BM25Index.build(collection.documents, cache_dir=arguments.cache_dir)
    run_ = bm25_run(collection, index, arguments.depth)
    check_ids(run_, {name for scores in run_.values() for name in scores})
    systems = [System("BM25", "BM25", run_, evaluated(arguments, run_, collection.qrels, collection.queries))]
    for model, name in zip(arguments.model, row_names(arguments), strict=True):
        scorer = load(model, arguments.dtype, arguments.pooling)
        run_, facts = search_all(arguments, scorer, collection)
        evaluation = evaluated(arguments, run_, collection.qrels, collection.queries)
        systems.append(System(name, model, run_, evaluation, facts))
    setting = {"data": Path(arguments.data).name, "split": arguments.split, "depth": arguments.depth}
    setting |= {"candidates": f"all {len(collection.documents):,} documents", "dtype": arguments.dtype}
    return systems, setting


def search_all(arguments: EvaluationArguments, scorer: Scorer, collection: Collection) -> tuple[Run, dict]:
    """The best documents of all, and facts about how they were found."""
    queries, depth = collection.queries, arguments.depth
    if not isinstance(scorer, DenseScorer):
        return retrieve_by_scoring(scorer, queries, collection.documents, depth), {}
    encoded = cached_encoding(scorer, collection.documents, arguments.cache_dir)
    facts = {"number_format": encoded.description["format"]}
    if arguments.index is None:
        return retrieve(scorer, queries, encoded, depth), facts
    run_, recall = retrieve_by_index(scorer, queries, encoded, depth, arguments.index, arguments.probes)
    return run_, {**facts, "index": arguments.index, "probes": arguments.probes, "index_recall": recall}


def evaluated(arguments: EvaluationArguments, run_: Run, qrels: Qrels, queries=None) -> Evaluation:
    measures = (*MEASURES, "Recall@1000") if arguments.depth >= 1000 else MEASURES
    return evaluate_run(run_, qrels, queries, measures, arguments.relevance_level)


def check(arguments: EvaluationArguments) -> None:
    """Find mistakes before anything is built or scored."""
    names = row_names(arguments)
    rows = [*first_row(arguments), *names]
    if arguments.depth < 1:
        raise InputError(f"--depth: expected at least 1, got {arguments.depth}")
    if arguments.max_queries is not None and arguments.max_queries < 1:
        raise InputError(f"--max_queries: expected at least 1, got {arguments.max_queries}")
    if arguments.candidates not in NAMED and not Path(arguments.candidates).exists():
        raise InputError(
            f"--candidates: {arguments.candidates} does not exist; expected bm25, own, a file or a folder"
        )
    if arguments.baseline not in (None, *rows):
        raise InputError(f"--baseline: no row is called {arguments.baseline!r}; there are {', '.join(rows)}")
    if arguments.qrels and is_folder(arguments.candidates):
        raise InputError("--qrels: ranking lists are judged by their own labels")
    if not arguments.retrieve and (arguments.index or arguments.probes):
        raise InputError("--index and --probes are for --retrieve")
    if arguments.probes and not arguments.index:
        raise InputError("--probes: say with --index in which index")
    refuse_unwritable(Path(arguments.output))
    kinds = check_models(arguments.model, arguments.dtype, arguments.pooling)
    for model, kind in zip(arguments.model, kinds, strict=True):
        logger.info("%s: %s model", model, kind)
        if arguments.index and kind in EMBEDDERS:
            new_index(embedding_size(model), arguments.index, arguments.probes)


def check_models(models: list[str], dtype: str, pooling: str | None) -> list[str]:
    """The kind of each model. Raises InputError for what could not be loaded or used, as far as its files tell."""
    kinds = [model_kind(model) for model in models]
    compute_dtype(dtype, torch.device("cpu"))
    bare = [model for model, kind in zip(models, kinds, strict=True) if kind == "encoder"]
    if pooling not in (None, *POOLINGS):
        raise InputError(f"--pooling: expected {' or '.join(POOLINGS)}, got {pooling!r}")
    if bare and pooling is None:
        raise InputError(f"{bare[0]} is a bare encoder: say how to pool its tokens with --pooling cls or mean")
    if pooling is not None and not bare:
        raise InputError("--pooling is for bare encoders; each of these models has its own")
    return kinds


def load(model: str, dtype: str, pooling: str | None) -> Scorer:
    """As `load_scorer`; the pooling is for bare encoders, other models have their own."""
    return load_scorer(model, dtype, pooling if model_kind(model) == "encoder" else None)


def row_names(arguments: EvaluationArguments) -> list[str]:
    """One name per model, all different."""
    if arguments.name and len(arguments.name) != len(arguments.model):
        raise InputError(f"--name: {len(arguments.name)} names for {len(arguments.model)} models")
    names = arguments.name or [Path(model).name for model in arguments.model]
    folders = [folder_name(name) for name in names]
    taken = folders + [folder_name(name) for name in first_row(arguments)]
    if twice := [name for name, folder in zip(names, folders, strict=True) if taken.count(folder) > 1]:
        raise InputError(f"--name: {twice[0]!r} would stand for two rows of the table; give each model its own name")
    return names


def first_row(arguments: EvaluationArguments) -> list[str]:
    """The name of the row above the models', if there is one: who found the candidates."""
    if arguments.retrieve or arguments.candidates == "bm25":
        return ["BM25"]
    is_run = arguments.candidates != "own" and is_trec_run(arguments.candidates)
    return [Path(arguments.candidates).stem] if is_run else []


def is_folder(candidates: str) -> bool:
    """Whether these candidates are ranking lists, which have their queries and labels with them."""
    return candidates not in NAMED and Path(candidates).is_dir()


def row_folder(arguments: EvaluationArguments, system: System) -> str:
    """Where a row's files go, below the output folder."""
    alone = len(arguments.model) == 1 and not arguments.name
    return "." if alone and system.source == arguments.model[0] else folder_name(system.name)


def folder_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"


def find_candidates(arguments: EvaluationArguments) -> Candidates:
    """The lists to re-rank, by what --candidates names."""
    source, file = arguments.candidates, None
    if is_folder(source):
        lists = RankingLists.load(arguments.candidates)
        kept = hash_subset(lists.rows["query_id"][:], arguments.max_queries or len(lists.rows))
        return list_candidates(lists, Path(arguments.candidates).name, arguments.depth, kept)
    is_run = source not in NAMED and is_trec_run(source)
    if source not in NAMED and not is_run:
        file = source
    collection = open_collection(arguments, file)
    options = {"depth": arguments.depth, "relevance_level": arguments.relevance_level}
    if is_run:
        return file_candidates(source, collection, **options)
    if source != "bm25":
        return brought_candidates(collection, Path(file or arguments.data).name, **options)
    index = BM25Index.build(collection.documents, cache_dir=arguments.cache_dir)
    return bm25_candidates(collection, index, **options)


def open_collection(arguments: EvaluationArguments, candidates: str | None = None) -> Collection:
    """The data, with lists of a file if one is given, and only the queries to be measured."""
    collection = read_data(
        arguments.data,
        arguments.split,
        arguments.cache_dir,
        candidates=candidates,
        qrels=arguments.qrels,
        allow_missing=arguments.allow_missing,
    )
    return judged_queries(collection, arguments.max_queries)


def judged_queries(collection: Collection, count: int | None) -> Collection:
    """The collection with only the queries to be measured."""
    judged = [query for query in collection.queries if collection.qrels.get(query)]
    kept = set(judged) if count is None else hash_subset(judged, count)
    if not kept:
        raise InputError(f"{collection.name}: no query with a judgment to evaluate")
    return collection.only(kept)


if __name__ == "__main__":
    run(make_parser, main)
