"""Scoring pairs, encoding a collection, MaxSim over token embeddings."""

import tempfile
from functools import cache, partial
from itertools import product

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.util import maxsim
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModelForSequenceClassification

from m3se.modeling.colbert import ColBERT
from m3se.run_scripts.benchmarks.measuring import Run
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.steps import dual_encoder
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.devices import autocast_dtype
from m3se.trainers.models.inspection import load_tokenizer
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
    # a pair has one [CLS], its texts alone have one each
    lengths = [sum(pair) - 1 for pair in zip(workload.lengths(queries), workload.lengths(documents), strict=True)]

    def build() -> Run:
        """Load our scorer."""
        scorer = PairScorer.from_pretrained(classifier(workload.path))
        return lambda: scorer.score(queries, documents, progress=False)

    def build_peer(dtype: str, size: int) -> Run:
        """Load the peer's model in a number format, to work in batches of `size`."""
        model = CrossEncoder(classifier(workload.path), model_kwargs={"dtype": dtype}, device=workload.device.type)
        pairs = list(zip(queries, documents, strict=True))
        return lambda: model.predict(pairs, batch_size=size, show_progress_bar=False)

    return Row(
        "teacher scoring",
        "CrossEncoder.predict",
        "pairs/s",
        len(queries),
        build,
        settings(build_peer, workload),
        workload.forward_flop(lengths),
    )


@cache
def classifier(path: str) -> str:
    """Save an untrained teacher on the benchmark's encoder; return its folder."""
    folder = tempfile.mkdtemp()
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(path, num_labels=1).save_pretrained(folder)
    load_tokenizer(path).save_pretrained(folder)
    return folder


def encoding(workload: Workload) -> Row:
    """Compare documents a second of a dual encoder, from texts to embeddings."""
    texts = workload.texts(workload.sizes.documents)

    def build() -> Run:
        """Load our model."""
        model = dual_encoder(workload).to(workload.device).eval()
        dtype = autocast_dtype(workload.device)
        return lambda: encode_texts(model, workload.tokenizer, texts, "document", dtype)

    def build_peer(dtype: str, size: int) -> Run:
        """Load the peer's model in a number format, to work in batches of `size`."""
        model = SentenceTransformer(workload.path, model_kwargs={"dtype": dtype}, device=workload.device.type)
        return lambda: model.encode(texts, batch_size=size, show_progress_bar=False)

    return Row(
        "encoding a collection",
        "SentenceTransformer.encode",
        "documents/s",
        len(texts),
        build,
        settings(build_peer, workload),
        workload.forward_flop(workload.lengths(texts)),
    )


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

    peers = {}
    for form, elements in product(("a padded tensor", "a list"), MAXSIM_ELEMENTS):
        peers[f"{form}, chunk_elements {elements or 'default'}"] = partial(build_peer, form, elements)
    return Row(
        f"ColBERT re-ranking {len(documents):,} documents",
        "sentence_transformers.util.maxsim",
        "documents/s",
        len(documents),
        build,
        peers,
        2 * workload.query_length * int(mask.sum()) * TOKEN_WIDTH,
    )


def random_embeddings(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw embeddings [N, L, width] of length 1 for N texts of L tokens."""
    return normalize(torch.randn(*shape, TOKEN_WIDTH, generator=generator), dim=-1)
