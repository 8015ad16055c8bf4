"""Scoring pairs, embedding a collection and single queries, MaxSim over token embeddings."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import torch
from sentence_transformers.util import maxsim
from torch import Tensor
from torch.nn.functional import normalize

from m3se.modeling.colbert import ColBERT
from m3se.run_scripts.benchmarks.measuring import Run
from m3se.run_scripts.benchmarks.our_backends import load_ours, our_scorers
from m3se.run_scripts.benchmarks.peer_jobs import peers
from m3se.run_scripts.benchmarks.peer_process import PeerProcess
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.backends.choice import Backend
from m3se.trainers.retrieval.scorers import Scorer


MAXSIM_ELEMENTS = (None, 2**20, 2**22)  # chunk_elements of sentence-transformers' maxsim
TOKEN_WIDTH = 128
LONG = 512  # tokens that are kept of long texts; each has at least half of them
SHORT = 8  # tokens of a query whose answer is waited for
WAITED_FOR = 64  # such queries
PASSES = 5  # over them, for percentiles
Use = Callable[[Scorer], object]  # does the work of a row with our model


def teacher_scoring(workload: Workload, is_int8: bool = False) -> Row:
    """Compare pairs a second of a cross-encoder, from texts to scores."""
    queries, documents = workload.pairs(workload.sizes.pairs)
    # a pair has one [CLS], its texts alone have one each
    lengths = [sum(pair) - 1 for pair in zip(workload.lengths(queries), workload.lengths(documents), strict=True)]
    pairs = list(zip(queries, documents, strict=True))

    def use(scorer: Scorer) -> np.ndarray:
        """Score the pairs."""
        return scorer.pairs.score(queries, documents, progress=False)

    return Row(
        "teacher scoring" + (", int8" if is_int8 else ""),
        "CrossEncoder.predict",
        "pairs/s",
        len(pairs),
        bind(our_scorers(workload, True, is_int8), use),
        peers(workload, pairs, pairs=True, is_int8=is_int8),
        workload.forward_flop(lengths),
        remark=partial(agreement, workload, True, use) if is_int8 else None,
    )


def teacher_scoring_in_int8(workload: Workload) -> Row:
    """Compare pairs a second in int8, and how far scores move."""
    return teacher_scoring(workload, is_int8=True)


def encoding(workload: Workload, is_int8: bool = False, work: str = "encoding a collection", least: int = 0) -> Row:
    """Compare documents a second of a dual encoder, from texts to embeddings; all have `least` tokens or more."""
    texts = workload.texts(workload.sizes.documents, least)

    def use(scorer: Scorer) -> np.ndarray:
        """Embed the texts."""
        return scorer.encode(texts, "document")

    return Row(
        work + (", int8" if is_int8 else ""),
        "embedding",
        "documents/s",
        len(texts),
        bind(our_scorers(workload, False, is_int8), use),
        peers(workload, texts, is_int8=is_int8),
        workload.forward_flop(workload.lengths(texts)),
        remark=partial(agreement, workload, False, use) if is_int8 else None,
    )


def encoding_in_int8(workload: Workload) -> Row:
    """Compare documents a second in int8, and how far embeddings move."""
    return encoding(workload, is_int8=True)


def encoding_long_texts(workload: Workload) -> Row:
    """Compare documents a second where all are long."""
    return encoding(replace(workload, document_length=LONG), work="encoding long texts", least=LONG // 2)


def query_latency(workload: Workload, is_int8: bool = False) -> Row:
    """Compare the wait for the embedding of one short query, and then for that of the next."""
    queries = workload.short_queries(WAITED_FOR, SHORT)
    return Row(
        f"one query of {SHORT} tokens at a time" + (", int8" if is_int8 else ""),
        "embedding",
        "queries/s",
        len(queries),
        bind(our_scorers(workload, False, is_int8), partial(waits, queries)),
        peers(workload, queries, alone=True, is_int8=is_int8),
        workload.forward_flop(workload.lengths(queries)),
        remark=percentiles,
    )


def query_latency_in_int8(workload: Workload) -> Row:
    """Compare the wait for the embedding of a query in int8."""
    return query_latency(workload, is_int8=True)


def bind(scorers: dict[str, Callable[[], Scorer]], use: Use) -> dict[str, Callable[[], Run]]:
    """Bind the use of every scorer; it is loaded when the work is set up."""

    def build(load: Callable[[], Scorer]) -> Run:
        """Load the scorer."""
        return partial(use, load())

    return {name: partial(build, load) for name, load in scorers.items()}


def waits(queries: list[str], scorer: Scorer) -> list[float]:
    """Return the seconds until each query is embedded, one after the other."""
    seconds = []
    for query in queries:
        before = time.perf_counter()
        scorer.encode([query], "query")
        seconds.append(time.perf_counter() - before)
    return seconds


def percentiles(run: Run) -> str:
    """Say how long half, and how long 95 of 100 queries took at most."""
    seconds: list[float] = []
    for _ in range(PASSES):
        seconds += run()
    half, most = np.percentile(seconds, (50, 95)) * 1000
    return f"p50 {half:.2f} ms, p95 {most:.2f} ms"


def agreement(workload: Workload, pairs: bool, use: Use, run: Run) -> str:
    """Say how near a side is to float32: mean cosine of embeddings [N, H], or correlation of scores [N]."""
    values = run.values() if isinstance(run, PeerProcess) else run()
    exact = use(load_ours(workload, pairs, Backend("torch", "float32")))
    if exact.ndim == 1:
        return f"correlation {np.corrcoef(exact, values)[0, 1]:.4f}"
    cosines = (exact * values).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(values, axis=1)
    return f"cosine {cosines.mean():.4f}"


def reranking(workload: Workload) -> Row:
    """Compare MaxSim of a query with the random token embeddings of many documents: only the lengths are real."""
    generator = torch.Generator().manual_seed(0)
    _, mask = workload.inputs(workload.texts(workload.sizes.reranked), "document")
    mask = mask.bool().to(workload.device)
    query = random_embeddings((1, workload.query_length), generator).to(workload.device)
    padded = random_embeddings(mask.shape, generator).to(workload.device) * mask[..., None]
    documents = [embeddings[tokens] for embeddings, tokens in zip(padded, mask, strict=True)]

    def build() -> Run:
        """Make our model, which scores pairs of embedded texts."""
        lengths = {"query_length": workload.query_length, "document_length": workload.document_length}
        model = ColBERT.from_encoder(workload.path, layers=1, **lengths, projection_size=TOKEN_WIDTH).eval()
        rows = torch.arange(len(padded), device=padded.device)
        seen = torch.ones(query.shape[:2], dtype=torch.bool, device=query.device)
        run = torch.inference_mode()(model.score_pairs)
        return lambda: run(query, seen, padded, mask, torch.zeros_like(rows), rows)

    def build_peer(form: str, elements: int | None) -> Run:
        """Set up the peer's MaxSim on a form of the documents' embeddings, with `elements` at once."""
        run = torch.inference_mode()(maxsim)
        if form == "a list":
            return lambda: run(query, documents, chunk_elements=elements)
        return lambda: run(query, padded, b_mask=mask, chunk_elements=elements)

    choices = {}
    for form, elements in product(("a padded tensor", "a list"), MAXSIM_ELEMENTS):
        choices[f"{form}, chunk_elements {elements or 'default'}"] = partial(build_peer, form, elements)
    return Row(
        f"ColBERT re-ranking {len(documents):,} documents",
        "sentence_transformers.util.maxsim",
        "documents/s",
        len(documents),
        {"torch, float32": build},
        choices,
        2 * workload.query_length * int(mask.sum()) * TOKEN_WIDTH,
    )


def random_embeddings(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw embeddings [N, L, width] of length 1 for N texts of L tokens."""
    return normalize(torch.randn(*shape, TOKEN_WIDTH, generator=generator), dim=-1)
