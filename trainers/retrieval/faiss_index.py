"""Approximate search with FAISS, by its factory strings ("IVF4096,PQ64", "HNSW32", "Flat", …), and what it loses."""

import logging
from hashlib import blake2b

import numpy as np
from tqdm import tqdm

from m3se.trainers.errors import InputError, first_line
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.storage.atomic import complete_file, write_text
from m3se.trainers.storage.checksums import checksum_lines, find_damage


logger = logging.getLogger(__name__)

TRAINING_ROWS = 200_000  # FAISS itself samples 256 rows per cluster
BLOCK_ROWS = 65_536


def open_index(collection: EmbeddedCollection, factory: str):
    """Open the FAISS index of a collection for inner products; built once and kept beside the shards.

    Raises InputError for what `new_index` does, and when the collection is too small to train what is asked for.
    """
    index = new_index(collection.width, factory)
    import faiss

    path = collection.folder / f"index-{blake2b(factory.encode(), digest_size=8).hexdigest()}.faiss"
    sums = path.with_suffix(".sums")
    if path.exists():
        fault = find_damage(path.parent, sums.name)
        if not fault:
            logger.info("FAISS: reusing %s", path)
            return faiss.read_index(str(path))
        logger.warning("FAISS: %s: %s; built again", path.parent, fault)
    if not index.is_trained:
        try:
            index.train(training_rows(collection))
        except RuntimeError as error:
            raise InputError(f"--index {factory}: {first_line(error)} ({len(collection)} embeddings)") from error
    with tqdm(total=len(collection), desc=f"FAISS {factory}", unit="document") as bar:
        for _, block in collection.blocks(BLOCK_ROWS):
            index.add(block)
            bar.update(len(block))
    with complete_file(path) as new:
        faiss.write_index(index, str(new))
        write_text(sums, checksum_lines({path.name: new}))
    return index


def new_index(width: int, factory: str, probes: int | None = None):
    """Return an empty index for embeddings of `width` numbers; of an IVF index, `probes` cells are looked at.

    Raises InputError when FAISS is not installed, or the string is no factory string or not for this width, or no
    cells can be looked at.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError("--index needs FAISS: pip install -e '.[index]'") from error
    try:
        index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise InputError(f"--index {factory}: {first_line(error)} (embeddings of {width} numbers)") from error
    look_at(index, probes)
    return index


def look_at(index, probes: int | None) -> None:
    """Set how many cells of an IVF index a search looks at (None: as it is)."""
    import faiss

    if probes is not None:
        try:
            faiss.ParameterSpace().set_index_parameter(index, "nprobe", probes)
        except RuntimeError as error:
            raise InputError("--probes is for IVF indexes only") from error


def training_rows(collection: EmbeddedCollection) -> np.ndarray:
    """Return embeddings of rows spread evenly over the collection."""
    count = min(len(collection), TRAINING_ROWS)
    return collection.embeddings(np.linspace(0, len(collection) - 1, count).astype(np.int64))


def search_index(index, queries: np.ndarray, k: int, probes: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Search for queries [B, H]: scores float32 and rows int64 [B, ≤ k].

    `probes` cells of an IVF index are looked at. Where the index finds fewer than k documents, rows are −1.
    """
    look_at(index, probes)
    return index.search(queries, min(k, index.ntotal))


def recall_against(exact: np.ndarray, approximate: np.ndarray) -> float:
    """Return the share of the exact best k documents [B, k] among the approximate [B, k], averaged over queries."""
    pairs = zip(exact.tolist(), approximate.tolist(), strict=True)
    hits = [len(set(best) & set(rows)) / len(best) for best, rows in pairs]
    return float(np.mean(hits))
