"""Exact search among random vectors: ours streams them from disk, FAISS holds them."""

from pathlib import Path

import faiss
import numpy as np
import torch

from m3se.run_scripts.benchmarks.measuring import Run
from m3se.run_scripts.benchmarks.row import Row
from m3se.run_scripts.benchmarks.workload import Workload
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import check_description, shard_is_intact, write_shard
from m3se.trainers.retrieval.exact_search import search


WIDTH, BEST, SHARD = 384, 100, 65_536


def exact_search(workload: Workload, documents: int | None = None, queries: int | None = None) -> Row:
    """Compare queries a second; FAISS has its index in memory before, ours reads the files each time."""
    count, queries = documents or workload.sizes.searched, random_vectors(1, queries or workload.sizes.search_queries)
    folder = Path(workload.cache_dir) / f"random-{count}x{WIDTH}"
    write_vectors(folder, count)

    def build() -> Run:
        """Open the files."""
        collection = EmbeddedCollection(folder)
        return lambda: search(queries, collection, BEST, workload.device, progress=False)

    def build_peer() -> Run:
        """Read the vectors into FAISS."""
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(WIDTH)
        for _, block in EmbeddedCollection(folder).blocks(SHARD):
            index.add(block)
        return lambda: index.search(queries, BEST)

    return Row(
        f"exact top {BEST} of {count:,} × {WIDTH}, {len(queries):,} queries",
        "faiss.IndexFlatIP",
        "queries/s",
        len(queries),
        {"float32": build},
        {"float32": build_peer},
        2 * len(queries) * count * WIDTH,
    )


def one_query(workload: Workload) -> Row:
    """Compare searches for one query at a time."""
    return exact_search(workload, queries=1)


def write_vectors(folder: Path, documents: int) -> None:
    """Write normal vectors into the folder, as encode.py writes embeddings; shards that are there are kept."""
    check_description(folder, {"documents": documents, "width": WIDTH, "format": "float32", "shard_size": SHARD})
    for shard, start in enumerate(range(0, documents, SHARD)):
        if not shard_is_intact(folder, shard):
            rows = random_vectors(2 + shard, min(SHARD, documents - start))
            write_shard(folder, shard, [str(row) for row in range(start, start + len(rows))], rows, "float32")


def random_vectors(seed: int, count: int) -> np.ndarray:
    """Draw normal vectors."""
    return np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)
