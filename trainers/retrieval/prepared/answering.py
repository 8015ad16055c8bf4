"""Queries → documents by ONNX Runtime, tokenizers, NumPy and Arrow alone: these are loaded in a second."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.hits import Answers, Hit
from m3se.trainers.retrieval.prepared.record import PreparedSearch
from m3se.trainers.storage.checksums import refuse_damaged


ENCODER, TOKENIZER, TEXTS = "query.onnx", "tokenizer.json", "table.arrow"
INPUTS = ("input_ids", "attention_mask")
BLOCK = 65_536  # documents that are multiplied at a time
MENDED = "a search that is not prepared makes it again"


def answer(prepared: PreparedSearch, queries: list[str], k: int) -> Answers:
    """Find the best k documents of every query, best first; of equal scores the first in the collection.

    Raises:
        InputError: a file is not what was written.
    """
    encode = QueryEncoder(Path(prepared.query_encoder), prepared.prompt)
    collection, texts = EmbeddedCollection(prepared.encoding), read_texts(Path(prepared.documents))
    started = time.perf_counter()
    scores, rows = best_rows(encode(queries), collection, k)
    seconds = time.perf_counter() - started
    hits = []
    for values, places in zip(scores.tolist(), rows, strict=True):
        shown = collection.ids(places), values, texts.take(pa.array(places)).to_pylist()
        hits.append([Hit(*hit) for hit in zip(*shown, strict=True)])
    return Answers(hits, len(collection), seconds)


class QueryEncoder:
    """The query side of a dual encoder.

    Args:
        folder: of its ONNX file and its tokenizer, which cuts and pads.
        prompt: stands before every query that does not begin with it.
    """

    def __init__(self, folder: Path, prompt: str):
        import onnxruntime
        from tokenizers import Tokenizer

        refuse_damaged(folder, MENDED)
        self.prompt = prompt
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.session = onnxruntime.InferenceSession(str(folder / ENCODER), providers=["CPUExecutionProvider"])

    def __call__(self, queries: list[str]) -> np.ndarray:
        """Embed B queries: [B, H] float32."""
        texts = [query if query.startswith(self.prompt) else self.prompt + query for query in queries]
        encoded = self.tokenizer.encode_batch(texts)
        ids = np.array([encoding.ids for encoding in encoded], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encoded], dtype=np.int64)
        return self.session.run(None, dict(zip(INPUTS, (ids, mask), strict=True)))[0]


def best_rows(queries: np.ndarray, collection: EmbeddedCollection, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the highest inner products of embeddings [B, H]: scores and rows [B, k], the lower row first of equals."""
    scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for first_row, block in collection.blocks(BLOCK):
        new_rows = np.arange(first_row, first_row + len(block))
        scores = np.concatenate([scores, queries @ block.T], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(new_rows, (len(queries), len(block)))], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
    return scores, rows


def read_texts(folder: Path) -> pa.ChunkedArray:
    """Map the texts of a document table, in its order.

    Raises:
        InputError: a file is not what was written.
    """
    refuse_damaged(folder, MENDED)
    with pa.memory_map(str(folder / TEXTS)) as file, pa.ipc.open_stream(file) as reader:
        return reader.read_all()["text"]
