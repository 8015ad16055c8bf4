"""Measure rankers by re-ranking the same candidate lists: one table, and a run file and metrics for each.

python run_scripts/evaluate.py --model outputs/quickstart/teacher outputs/quickstart/de-m3se --name CA "DE M3SE" \
    --data pydocs --split test --candidates bm25 --depth 50 --output outputs/evaluation
"""

import logging
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from run_scripts.cli import run
from run_scripts.training import first_by_hash
from trainers.data import BM25Index, Collection, RankingLists, read_data
from trainers.errors import InputError
from trainers.evaluation.candidates import (
    Candidates,
    bm25_candidates,
    file_candidates,
    list_candidates,
    run_of_scores,
)
from trainers.evaluation.files import write_text
from trainers.evaluation.loading import load_scorer, model_kind
from trainers.evaluation.measures import evaluate_run
from trainers.evaluation.report import System, markdown_table, write_system
from trainers.evaluation.runs import Run


logger = logging.getLogger(__name__)


@dataclass
class EvaluationArguments:
    output: str = field(metadata={"help": "Folder for table.md and, per row of the table, a folder of results."})
    model: list[str] = field(default_factory=list, metadata={"help": "Model folders or Hub ids; none: only BM25."})
    name: list[str] = field(
        default_factory=list, metadata={"help": "Their names in the table (default: of the folder)."}
    )
    data: str = field(default="pydocs", metadata={"help": "pydocs, or a folder with corpus, queries and qrels."})
    split: str = field(default="test", metadata={"help": "Which queries of the data."})
    candidates: str = field(
        default="bm25",
        metadata={"help": "bm25, a TREC run file, or a folder of ranking lists (then --data is not read)."},
    )
    depth: int = field(default=100, metadata={"help": "Candidates of a query."})
    max_queries: int | None = field(
        default=None, metadata={"help": "Only so many queries, the first by hash of their id."}
    )
    relevance_level: int = field(
        default=1, metadata={"help": "Grade from which MRR and Recall count a document; TREC Deep Learning uses 2."}
    )
    dtype: str = field(default="auto", metadata={"help": "float32, bfloat16, or auto: bfloat16 where it is fast."})
    pooling: str | None = field(default=None, metadata={"help": "cls or mean, for bare encoders only."})
    cache_dir: str = field(default="outputs/cache", metadata={"help": "Where prepared collections and indexes go."})


def make_parser() -> HfArgumentParser:
    return HfArgumentParser(EvaluationArguments, description=__doc__)


def main(arguments: EvaluationArguments) -> list[System]:
    names = row_names(arguments)
    for model in arguments.model:
        logger.info("%s: %s model", model, model_kind(model))  # a wrong folder is found before BM25 is built
    candidates = find_candidates(arguments)
    systems = []
    if candidates.run is not None:
        systems.append(measured("BM25", "bm25s", candidates.run, candidates, arguments, None))
    for model, name in zip(arguments.model, names, strict=True):
        scorer = load_scorer(model, arguments.dtype, arguments.pooling)
        start = time.perf_counter()
        ranked = run_of_scores(candidates.lists, scorer.score_lists(candidates.lists))
        seconds = time.perf_counter() - start
        systems.append(measured(name, model, ranked, candidates, arguments, seconds))
    write_results(systems, candidates, arguments)
    return systems


def row_names(arguments: EvaluationArguments) -> list[str]:
    """One name per model, all different."""
    if arguments.name and len(arguments.name) != len(arguments.model):
        raise InputError(f"--name: {len(arguments.name)} names for {len(arguments.model)} models")
    names = arguments.name or [Path(model).name for model in arguments.model]
    folders = [folder_name(name) for name in ["BM25", *names]]
    if twice := [name for name, folder in zip(names, folders[1:], strict=True) if folders.count(folder) > 1]:
        raise InputError(f"--name: {twice[0]!r} would stand for two rows of the table; give each model its own name")
    return names


def folder_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"


def find_candidates(arguments: EvaluationArguments) -> Candidates:
    use_bm25 = arguments.candidates == "bm25"
    if not use_bm25 and not Path(arguments.candidates).exists():
        raise InputError(f"--candidates: {arguments.candidates} does not exist; expected bm25, a run file or a folder")
    if arguments.depth < 1:
        raise InputError(f"--depth: expected at least 1, got {arguments.depth}")
    if not use_bm25 and Path(arguments.candidates).is_dir():
        lists = RankingLists.load(arguments.candidates)
        kept = first_by_hash(lists.rows["query_id"][:], arguments.max_queries or len(lists.rows))
        return list_candidates(lists, Path(arguments.candidates).name, arguments.depth, kept)
    collection = judged_queries(read_data(arguments.data, arguments.split, arguments.cache_dir), arguments.max_queries)
    if not use_bm25:
        return file_candidates(arguments.candidates, collection, arguments.depth, arguments.relevance_level)
    index = BM25Index.build(collection.documents, cache_dir=arguments.cache_dir)
    return bm25_candidates(collection, index, arguments.depth, arguments.relevance_level)


def judged_queries(collection: Collection, count: int | None) -> Collection:
    """The collection with only the queries to be measured."""
    judged = [query for query in collection.queries if collection.qrels.get(query)]
    kept = set(judged) if count is None else first_by_hash(judged, count)
    if not kept:
        raise InputError(f"{collection.name}: no query with a judgment to evaluate")
    collection.queries = {query: text for query, text in collection.queries.items() if query in kept}
    return collection


def measured(
    name: str,
    source: str,
    ranked: Run,
    candidates: Candidates,
    arguments: EvaluationArguments,
    seconds: float | None = None,
) -> System:
    evaluation = evaluate_run(ranked, candidates.qrels, relevance_level=arguments.relevance_level)
    pairs = sum(map(len, ranked.values()))
    return System(name, source, ranked, evaluation, pairs / seconds if seconds else None)


def write_results(systems: list[System], candidates: Candidates, arguments: EvaluationArguments) -> None:
    own_lists = candidates.run is None
    setting = {
        "data": Path(arguments.candidates if own_lists else arguments.data).name,
        "split": arguments.split,
        "candidates": candidates.name,
        "candidate_recall": candidates.recall,
        "depth": arguments.depth,
        "dtype": arguments.dtype,
    }
    output = Path(arguments.output)
    for system in systems:
        write_system(output / folder_name(system.name), system, setting)
    table = markdown_table(systems, ["MRR@10", "nDCG@10"], setting)
    write_text(output / "table.md", table)
    print(table)


if __name__ == "__main__":
    run(make_parser, main)
