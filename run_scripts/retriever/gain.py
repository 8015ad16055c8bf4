"""The question before any student is trained: is the teacher better than the start, and what would the rest cost?"""

import logging
import time
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from m3se.run_scripts.retriever import measure
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.trainers.backends.choice import choose_backend
from m3se.trainers.backends.teachers import compile_teachers
from m3se.trainers.data import BM25Index, RankingLists
from m3se.trainers.data.candidates import ranked_candidates
from m3se.trainers.data.schema import Collection
from m3se.trainers.evaluation.runs import Run
from m3se.trainers.evaluation.teacher_gains import teacher_gains
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.storage.atomic import write_json
from m3se.trainers.teacher.loading import load_teacher


logger = logging.getLogger(__name__)

GAIN = "gain.json"
TIMED = 64  # texts or pairs
SAME_ORDER = 0.99  # agreement of the start with the teacher, above which it says nothing new


def measure_gain(arguments: RetrieverArguments) -> None:
    """Measure BM25, the start and the teacher on the dev lists, and write gain.json.

    It says whether the teacher is better, by how much, and how long a text and a pair take on this machine.
    """
    scored = RankingLists.load(arguments.scored("dev"))
    qrels = measure.read_qrels(arguments, "dev")
    is_judged = qrels is not None
    if not is_judged:
        teacher_gains(scored).save(arguments.dev_lists(is_judged))
    start = load_embedder(arguments.start)
    runs = {
        "BM25": bm25_run(arguments, scored, qrels or {}),
        "start": measure.encoded_run(start, cached_encoding(start, scored.documents, arguments.cache_dir), scored),
        "teacher": measure.teacher_run(scored),
    }
    evaluations = measure.evaluate(arguments, runs, qrels, scored)
    gain = measure.difference(evaluations["teacher"], evaluations["start"])
    is_better = gain.is_better if is_judged else evaluations["start"].values[measure.MEASURE] < SAME_ORDER
    cells = measure.rows(evaluations, "re-ranking", is_judged)
    print(f"\n{measure.describe_queries(arguments, len(scored.rows))}\n\n{measure.results_table(cells, is_judged)}\n")
    write_json(
        arguments.folder / GAIN,
        {
            "is_judged": is_judged,
            "queries": len(scored.rows),
            "values": {name: evaluation.values for name, evaluation in evaluations.items()},
            "teacher_minus_start": asdict(gain),
            "is_better": is_better,
            "says": describe_gain(gain, is_better, is_judged, evaluations["start"].values[measure.MEASURE]),
            "seconds_per_text": seconds_per_text(start, scored),
            "seconds_per_pair": seconds_per_pair(arguments, scored),
        },
    )


def describe_gain(gain: measure.Difference, is_better: bool, is_judged: bool, agreement: float) -> str:
    """Say in a line what a student could learn from the teacher."""
    if not is_judged:
        verdict = f"the start agrees with the teacher to {agreement:.3f} ({measure.AGREEMENT})"
        return f"{verdict}, which leaves {'room to learn' if is_better else 'nothing to learn'}"
    verdict = "The teacher is better than the start" if is_better else "The teacher is not better than the start"
    return f"{verdict}: nDCG@10 {gain}"


def bm25_run(arguments: RetrieverArguments, lists: RankingLists, qrels: measure.Qrels) -> Run:
    """Rank the collection for the queries of the lists by BM25, to the depth of the candidates."""
    collection = searched_collection(lists, qrels)
    queries = collection.queries
    index = BM25Index.build(lists.documents, cache_dir=arguments.cache_dir, tokenizer=arguments.bm25_tokenizer)
    run: Run = {}
    keep = arguments.keep_identical_ids
    for query, ids, scores in ranked_candidates(index, collection, list(queries), arguments.depth, keep):
        run[query] = dict(zip(ids, scores, strict=True))
    return run


def searched_collection(lists: RankingLists, qrels: measure.Qrels) -> Collection:
    """Return the documents behind some lists as a collection with the queries of the lists."""
    queries = dict(zip(lists.rows["query_id"][:], lists.rows["query"][:], strict=True))
    return Collection("", lists.documents, queries, qrels)


def seconds_per_text(start: DenseScorer, lists: RankingLists) -> float:
    """Time the start encoder on documents of the lists, cut as in training."""
    texts = sample_texts(lists)
    start.encode(texts[:8], "document")  # the first pass prepares
    started = time.perf_counter()
    start.encode(texts, "document")
    return (time.perf_counter() - started) / len(texts)


def seconds_per_pair(arguments: RetrieverArguments, lists: RankingLists) -> float:
    """Time the teachers that are models, one after the other, on pairs of a query with documents of the lists."""
    texts = sample_texts(lists)
    queries = [lists.rows[0]["query"]] * len(texts)
    backend, seconds = choose_backend(arguments.backend, arguments.dtype), 0.0
    for name in arguments.teachers("dev"):
        if Path(name).is_file():  # a run has its scores
            continue
        teacher = load_teacher(name, backend.loaded_dtype, device=backend.device)
        compile_teachers([teacher], backend, lists, arguments.cache_dir)
        teacher.score(queries[:8], texts[:8])
        started = time.perf_counter()
        teacher.score(queries, texts)
        seconds += time.perf_counter() - started
    return seconds / len(texts)


def sample_texts(lists: RankingLists) -> list[str]:
    """Return the first distinct documents of the lists."""
    ids = dict.fromkeys(chain.from_iterable(lists.rows["document_ids"]))
    return lists.documents.texts(list(ids)[:TIMED])
