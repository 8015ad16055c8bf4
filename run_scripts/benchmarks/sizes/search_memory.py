"""Time and memory of exact search and of FAISS over random vectors; the numbers in evaluation.md come from here.

OMP_NUM_THREADS=1 python run_scripts/benchmarks/sizes/search_memory.py --documents 1000000 --width 384
"""

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from m3se.trainers.retrieval.embedded_collection import DESCRIPTION, EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import write_shard
from m3se.trainers.retrieval.exact_search import search
from m3se.trainers.retrieval.faiss_index import open_index, recall_against, search_index


logger = logging.getLogger(__name__)

SHARD = 65_536


def write_random(folder: Path, documents: int, width: int, number_format: str) -> None:
    """Write shards of normal vectors."""
    description = {"documents": documents, "width": width, "format": number_format, "shard_size": SHARD}
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    generator = np.random.default_rng(0)
    for shard, start in enumerate(range(0, documents, SHARD)):
        rows = generator.standard_normal((min(SHARD, documents - start), width), dtype=np.float32)
        write_shard(folder, shard, [str(row) for row in range(start, start + len(rows))], rows, number_format)


def megabytes() -> float:
    """Return the peak memory of this process, mapped files included; not on Windows, which has no such count."""
    import resource  # Windows imports this file too, but cannot measure

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(name: str, call: Callable):
    """Call a function and return its result; log its times and the process's peak memory so far."""
    before, wall, cpu = megabytes(), time.perf_counter(), time.process_time()
    result = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    logger.info(
        f"{name}: {cpu:.2f} s of processor, {wall:.2f} s, peak {megabytes():,.0f} MB (before {before:,.0f} MB)"
    )
    return result


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--number_format", default="float32")
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--index", help="FAISS factory string")
    parser.add_argument("--probes", type=int)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ProcessPoolExecutor(1, get_context("spawn")) as writer:  # whose memory is not counted
            writer.submit(write_random, folder, options.documents, options.width, options.number_format).result()
        collection = EmbeddedCollection(folder)
        queries = np.random.default_rng(1).standard_normal((max(options.queries), options.width), dtype=np.float32)
        logger.info(f"{options.documents:,} × {options.width} {options.number_format}, k = {options.k}")
        for count in options.queries:
            look_up = partial(search, queries[:count], collection, options.k, progress=False)
            _, exact = measured(f"exact, {count} queries", look_up)
        if options.index:
            index = measured(f"building {options.index}", lambda: open_index(collection, options.index))
            _, nearest = measured("searching it", lambda: search_index(index, queries, options.k, options.probes))
            logger.info(f"recall of the exact {options.k}: {recall_against(exact, nearest):.3f}")


if __name__ == "__main__":
    main()
