"""Time and recall of a vector database over random vectors around a thousand centres; docs/serving.md has its numbers.

OMP_NUM_THREADS=1 python run_scripts/benchmarks/sizes/store_sizes.py --documents 100000 --index_type FLAT IVF_FLAT
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from tqdm import tqdm

from m3se.run_scripts.benchmarks.sizes.search_memory import megabytes
from m3se.trainers.stores.document_store import INDEXES, DocumentStore, create_store


logger = logging.getLogger(__name__)

CENTRES = 1_000
BLOCK = 10_000
K = 10
TEXT = "the text of a paragraph of about a hundred words " * 10
MODEL = "random"


def blocks(documents: int, width: int) -> Iterator[np.ndarray]:
    """Yield vectors of length one around the centres, [at most `BLOCK`, width] float32."""
    for start in range(0, documents, BLOCK):
        yield draw(min(BLOCK, documents - start), width, start + 2)


def draw(count: int, width: int, seed: int) -> np.ndarray:
    """Draw vectors of length one around the centres: [count, width] float32."""
    centres = np.random.default_rng(1).standard_normal((CENTRES, width), dtype=np.float32)
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(0, CENTRES, count)]
    vectors += generator.standard_normal((count, width), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(store: DocumentStore, documents: int) -> None:
    """Put that many documents into a store."""
    with tqdm(total=documents, desc="storing", unit="document") as bar:
        for number, vectors in enumerate(blocks(documents, store.width)):
            ids = list(map(str, range(number * BLOCK, number * BLOCK + len(vectors))))
            store.put(ids, [TEXT] * len(ids), vectors)
            bar.update(len(ids))
    store.finish()


def best_rows(queries: np.ndarray, documents: int) -> list[set[str]]:
    """Find the ids of each query's best documents by comparing with all of them."""
    scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for number, vectors in enumerate(blocks(documents, queries.shape[1])):
        places = np.broadcast_to(np.arange(len(vectors)) + number * BLOCK, (len(queries), len(vectors)))
        scores, rows = np.hstack([scores, queries @ vectors.T]), np.hstack([rows, places])
        best = np.argsort(-scores, axis=1)[:, :K]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return [set(map(str, row)) for row in rows.tolist()]


def measure(store: DocumentStore, queries: np.ndarray, expected: list[set[str]]) -> None:
    """Search for one query after the other; log the median time and the mean recall."""
    seconds, shares = [], []
    for query, names in zip(queries, expected, strict=True):
        started = time.perf_counter()
        (hits,) = store.search(query[None], K)
        seconds.append(time.perf_counter() - started)
        shares.append(len(names.intersection(hit.id for hit in hits)) / K)
    logger.info(
        f"{store.index_type}: {1000 * median(seconds):.1f} ms a query, recall@{K} {np.mean(shares):.3f}, "
        f"peak {megabytes():,.0f} MB"
    )


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--index_type", nargs="+", choices=INDEXES, default=["FLAT"])
    parser.add_argument("--store", help="address of a server; without it a file is made and removed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    queries = draw(options.queries, options.width, seed=0)
    expected = best_rows(queries, options.documents)
    with tempfile.TemporaryDirectory() as folder:
        uri = options.store or str(Path(folder) / "vectors.db")
        with create_store(uri, "sizes", MODEL, options.width) as store:
            started = time.perf_counter()
            fill(store, options.documents)
            logger.info(f"{options.documents:,} × {options.width} put in: {time.perf_counter() - started:.0f} s")
            for index_type in options.index_type:
                if index_type != store.index_type:
                    started = time.perf_counter()
                    store.rebuild(index_type)
                    logger.info(f"{index_type} built: {time.perf_counter() - started:.0f} s")
                measure(store, queries, expected)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        logger.info(f"on disk: {size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
