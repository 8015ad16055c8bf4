"""Scoring pairs, encoding a collection, MaxSim over token embeddings."""

import tempfile
from functools import cache, partial

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.util import maxsim
from torch.nn.functional import normalize
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from m3se.modeling.colbert import ColBERT
from m3se.run_scripts.benchmarks.measuring import Run
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.steps import dual_encoder
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.devices import autocast_dtype
from m3se.trainers.retrieval.embed_texts import encode_texts
from m3se.trainers.teacher.pair_scorer import PairScorer


BATCH_SIZES = (8, 16, 32, 64, 128)
MAXSIM_ELEMENTS = (None, 2**20, 2**22)  # chunk_elements of sentence-transformers' maxsim
TOKEN_WIDTH = 128


def settings(build, workload: Workload) -> dict:
    """Bind `build(dtype, batch size)` to every number format and batch size that a peer may choose."""
    choices = {}
    for dtype in workload.dtypes:
        choices |= {f"{dtype}, batch size {size}": partial(build, dtype, size) for size in BATCH_SIZES}
    return choices


def teacher_scoring(workload: Workload) -> Row:
    """Compare pairs a second of a cross-encoder, from texts to scores."""
    queries, documents = workload.pairs(workload.sizes.pairs)
    lengths = [
        query + document - 1
        for query, document in zip(workload.lengths(queries), workload.lengths(documents), strict=True)
    ]

    def ours() -> Run:
        scorer = PairScorer.from_pretrained(classifier(workload.path))
        return lambda: scorer.score(queries, documents, progress=False)

    def peer(dtype: str, size: int) -> Run:
        model = CrossEncoder(classifier(workload.path), model_kwargs={"dtype": dtype}, device=workload.device.type)
        pairs = list(zip(queries, documents, strict=True))
        return lambda: model.predict(pairs, batch_size=size, show_progress_bar=False)

    return Row(
        "teacher scoring",
        "CrossEncoder.predict",
        "pairs/s",
        len(queries),
        ours,
        settings(peer, workload),
        workload.forward_flop(lengths),
    )


@cache
def classifier(path: str) -> str:
    """Save an untrained teacher on the benchmark's encoder; return its folder."""
    folder = tempfile.mkdtemp()
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(path, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(path).save_pretrained(folder)
    return folder


def encoding(workload: Workload) -> Row:
    """Compare documents a second of a dual encoder, from texts to embeddings."""
    texts = workload.texts(workload.sizes.documents)

    def ours() -> Run:
        model = dual_encoder(workload).to(workload.device).eval()
        dtype = autocast_dtype(workload.device)
        return lambda: encode_texts(model, workload.tokenizer, texts, "document", dtype)

    def peer(dtype: str, size: int) -> Run:
        model = SentenceTransformer(workload.path, model_kwargs={"dtype": dtype}, device=workload.device.type)
        return lambda: model.encode(texts, batch_size=size, show_progress_bar=False)

    return Row(
        "encoding a collection",
        "SentenceTransformer.encode",
        "documents/s",
        len(texts),
        ours,
        settings(peer, workload),
        workload.forward_flop(workload.lengths(texts)),
    )


def reranking(workload: Workload) -> Row:
    """Compare MaxSim of a query with the random token embeddings of many documents: only the lengths are real."""
    lengths = workload.lengths(workload.texts(workload.sizes.reranked))
    generator = torch.Generator().manual_seed(0)
    vectors = [
        normalize(torch.randn(length, TOKEN_WIDTH, generator=generator), dim=-1).to(workload.device)
        for length in [workload.query_length, *lengths]
    ]
    query, documents = vectors[0][None], vectors[1:]
    padded = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True)
    mask = torch.arange(padded.shape[1], device=padded.device) < torch.tensor(lengths, device=padded.device)[:, None]

    def ours() -> Run:
        lengths = {"query_length": workload.query_length, "document_length": workload.document_length}
        model = ColBERT.from_encoder(workload.path, layers=1, **lengths, projection_size=TOKEN_WIDTH).eval()
        rows = torch.arange(len(padded), device=padded.device)
        seen = torch.ones(query.shape[:2], dtype=torch.bool, device=query.device)
        run = torch.inference_mode()(model.score_pairs)
        return lambda: run(query, seen, padded, mask, torch.zeros_like(rows), rows)

    def peer(form: str, elements: int | None) -> Run:
        run = torch.inference_mode()(maxsim)
        if form == "a list":
            return lambda: run(query, documents, chunk_elements=elements)
        return lambda: run(query, padded, b_mask=mask, chunk_elements=elements)

    return Row(
        f"ColBERT re-ranking {len(documents):,} documents",
        "sentence_transformers.util.maxsim",
        "documents/s",
        len(documents),
        ours,
        {
            f"{form}, chunk_elements {elements or 'default'}": partial(peer, form, elements)
            for form in ("a padded tensor", "a list")
            for elements in MAXSIM_ELEMENTS
        },
        2 * workload.query_length * sum(lengths) * TOKEN_WIDTH,
    )
