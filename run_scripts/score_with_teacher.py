r"""Score ranking lists with a teacher, or with the mean of several: what students are distilled from.

    accelerate launch run_scripts/score_with_teacher.py --teacher outputs/quickstart/teacher --data pydocs \
        --split train --documents_per_query 8 --depth 50 --output outputs/quickstart/scored

--data is a collection (its lists are then the positives and negatives of every query) or a folder of ranking lists.
Scores are cached under --cache_dir by teacher and text: stop it whenever you like, run it again, and only what is
missing is computed. Writes a folder of ranking lists that distill.py reads, with calibration.json in it.

Scores that others have published need no teacher; the lists are then the best scored documents of every query:

    python run_scripts/score_with_teacher.py --data MSMARCO_FOLDER --candidates bert_cat_ensemble_msmarcopassage.tsv \
        --output outputs/msmarco/scored
"""

import json
import logging
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from transformers import HfArgumentParser

from m3se.run_scripts.cli.app import run
from m3se.run_scripts.cli.arguments import REQUIRED, CollectionArguments, RankingArguments, option
from m3se.trainers.data import (
    Collection,
    RankingLists,
    candidate_source,
    lists_relevant_from,
    read_data,
    relevant_from,
    teacher_lists,
    training_lists,
    write_scored_triples,
)
from m3se.trainers.data.schema import hash_subset, missing_part
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import check_ids
from m3se.trainers.processes import connect_processes
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.teacher.annotate import ProcessShare, annotate, check_teachers, fill_cache
from m3se.trainers.teacher.calibration import Calibration, calibrate
from m3se.trainers.teacher.pair_scorer import PairScorer


@dataclass(kw_only=True)
class ScoringArguments(CollectionArguments, RankingArguments):
    """The lists, the teachers that score them, and where the scores go."""

    output: str = option("Folder for the annotated ranking lists.", REQUIRED)
    teacher: list[str] = option(
        "Cross-encoder folders or Hub ids, with 1 logit or 2; several: the mean of their scores; none: the scores "
        "that the data or --candidates bring.",
        list,
    )
    data: str = option("pydocs, a collection, or a folder of ranking lists.", "pydocs")
    split: str = option("Which queries of a collection.", "train")
    candidates: str = option(
        "Where negatives come from: bm25, random, own (the lists that the data brings), auto (own, else bm25), or a "
        "file: TREC or MS MARCO run, triples of ids, Hofstätter's teacher scores, top1000.",
        "auto",
    )
    candidates_format: str = option(
        "Of a file of candidates: run, triples, scored_triples, top1000; auto: what its lines say.", "auto"
    )
    qrels: str | None = option("File of judgments, where the data has none or others.")
    bm25_k1: float = option("Of BM25: how soon a repeated word adds no more.", 0.9)
    bm25_b: float = option("Of BM25: how much long documents are held back, 0 to 1.", 0.4)
    bm25_stemmer: str = option("Snowball stemmer of BM25, by language; none: words as they are.", "english")
    relevance_level: int = option("Grade from which a document is a positive.", 1)
    documents_per_query: int = option("K: the positives and negatives of a query.", 20)
    depth: int = option("Negatives come from the top this many candidates.", 100)
    negatives: str = option("random: drawn from them; top: the best ranked.", "random")
    max_queries: int | None = option("Only so many, the first by hash of their id.")
    skip_queries: int = option(
        "Leave out the first so many by hash: as many as train_teacher.py's --train_queries, so that the teacher "
        "scores only queries that it was not trained on.",
        0,
    )
    seed: int = option("Of the random negatives.", 0)
    dtype: str | None = option("float32 or bfloat16 (default: bfloat16 where the processor multiplies in it).")
    query_length: int | None = option("Query tokens (default: the teacher's own).")
    document_length: int | None = option("Document tokens (default: the same).")
    cache_dir: str = option("Scores, prepared collections, indexes.", "outputs/cache")
    export_tsv: str | None = option("Also write the scores as Hofstätter's table: two scores, three ids a line.")
    shard_seconds: float = option("A shard is written this often.", 30.0)


def make_parser() -> HfArgumentParser:
    """Make the parser of the command's options."""
    return HfArgumentParser(ScoringArguments, description=__doc__)


def main(arguments: ScoringArguments) -> None:
    """Score a share of the pairs into the cache; the first process then writes and reports the scores of all."""
    state = connect_processes()
    if state.is_main_process:
        check_output(Path(arguments.output))
        check_export(arguments)
    else:
        logging.disable(logging.INFO)
    teachers = load_teachers(arguments)
    with state.main_process_first():  # it prepares collection and index, which the others only open
        lists = prepare_lists(arguments)
    if arguments.export_tsv is not None:
        check_ids(lists.rows["query_id"], chain.from_iterable(lists.rows["document_ids"]), "a table of triples")
    cache = Path(arguments.cache_dir) / "teacher_scores"
    if teachers and state.num_processes > 1:
        share = ProcessShare(state.process_index, state.num_processes)
        fill_cache(lists, teachers, cache, share, arguments.shard_seconds, progress=state.is_main_process)
    state.wait_for_everyone()
    state.destroy_process_group()
    if state.is_main_process:
        annotated = annotate(lists, teachers, cache, arguments.shard_seconds) if teachers else lists
        calibration = calibrate(annotated)
        write(annotated, calibration, arguments)
        print("\n".join(calibration.lines()))


def load_teachers(arguments: ScoringArguments) -> list[PairScorer]:
    """Load all teachers, each with the lengths and number format of the options."""
    options = arguments.dtype, arguments.query_length, arguments.document_length
    teachers = [PairScorer.from_pretrained(name, *options) for name in arguments.teacher]
    if teachers:
        check_teachers(teachers)
    elif arguments.data == "pydocs":
        raise InputError("--teacher: expected a cross-encoder; only data that brings teacher scores needs none")
    return teachers


def check_output(output: Path) -> None:
    """Raise InputError, before any work, when the lists could not be written there."""
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and missing_part(output))):
        raise InputError(f"--output {output}: exists and does not hold ranking lists; it is not overwritten")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=output.parent).cleanup()
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written: {error.strerror}") from error


def prepare_lists(arguments: ScoringArguments) -> RankingLists:
    """Read the lists of a folder, or make those of a collection's queries; of the selected queries."""
    if (Path(arguments.data) / "data_report.json").is_file():
        lists = RankingLists.load(arguments.data)
        queries = lists.rows["query_id"][:]
        selected = select_queries(set(queries), arguments)
        lists.rows = lists.rows.select(np.flatnonzero([query in selected for query in queries]))
        return lists_relevant_from(lists, arguments.relevance_level)
    collection = read_collection(arguments)
    if not arguments.teacher:
        options = {"keep_identical_ids": arguments.keep_identical_ids}
        return teacher_lists(collection, arguments.documents_per_query, **options)
    kind = "own" if Path(arguments.candidates).is_file() else arguments.candidates
    stemmer = None if arguments.bm25_stemmer == "none" else arguments.bm25_stemmer
    bm25 = {"k1": arguments.bm25_k1, "b": arguments.bm25_b, "stemmer": stemmer, "tokenizer": arguments.bm25_tokenizer}
    source = candidate_source(collection, kind, arguments.cache_dir, arguments.seed, **bm25)
    return training_lists(
        collection,
        source,
        arguments.documents_per_query,
        depth=arguments.depth,
        seed=arguments.seed,
        negatives=arguments.negatives,
        keep_identical_ids=arguments.keep_identical_ids,
    )


def read_collection(arguments: ScoringArguments) -> Collection:
    """Read the collection of --data, with the lists of a file of candidates."""
    brought = arguments.candidates if Path(arguments.candidates).is_file() else None
    collection = read_data(
        arguments.data,
        arguments.split,
        cache_dir=arguments.cache_dir,
        candidates=brought,
        qrels=arguments.qrels,
        allow_missing=arguments.allow_missing,
        candidates_format=arguments.candidates_format if brought else "auto",
    )
    collection = relevant_from(collection, arguments.relevance_level)
    return collection.only(select_queries(set(collection.queries), arguments))


def select_queries(queries: set[str], arguments: ScoringArguments) -> set[str]:
    """Select the queries that --skip_queries and --max_queries leave. Raises InputError when the first leaves none."""
    if queries and not 0 <= arguments.skip_queries < len(queries):
        raise InputError(
            f"--skip_queries: expected 0 or more, and fewer than the {len(queries)} queries there are, "
            f"got {arguments.skip_queries}"
        )
    return hash_subset(queries, arguments.max_queries, arguments.skip_queries)


def check_export(arguments: ScoringArguments) -> None:
    """Raise InputError, before any work, when the table could not be written."""
    if arguments.export_tsv is not None and not Path(arguments.export_tsv).resolve().parent.is_dir():
        raise InputError(f"--export_tsv {arguments.export_tsv}: its folder does not exist")


def write(lists: RankingLists, calibration: Calibration, arguments: ScoringArguments) -> None:
    """Write lists and calibration.json as one folder, which appears only when complete, and the table of --export_tsv.

    Raises InputError when they cannot be written.
    """
    output = arguments.output
    try:
        with complete_folder(output) as folder:
            lists.write_into(folder)
            text = json.dumps(calibration.as_dict(), indent=2) + "\n"
            (folder / "calibration.json").write_text(text, encoding="utf-8")
        if arguments.export_tsv is not None:
            output = arguments.export_tsv
            write_scored_triples(lists, output)
    except OSError as error:
        raise InputError(f"{output}: could not be written: {error.strerror or error}") from error


if __name__ == "__main__":
    run(make_parser, main)
