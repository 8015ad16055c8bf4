"""The embedded collection: search the Python documentation that is installed anyway.

A query is the first sentence of a docstring, its relevant document the qualified name and the rest of that docstring.
No network and no file of ours is needed. The collection is a function of the installed versions: names are hashed to
put documents in order and queries in splits, so another release of one package leaves the pairs of the others alone.
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from datasets import Dataset, Features, Value
from tqdm import tqdm

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.pydocs.docstring_pairs import make_pair
from m3se.trainers.data.pydocs.docstrings import docstrings, installed_files, standard_library_files
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import write_rows
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.cache import cache_key, cache_root, reusable
from m3se.trainers.storage.state import State, package_version


logger = logging.getLogger(__name__)

# Import name → distribution. Only what this project requires itself (with the extra `demo`), so that test tools or a
# neighbour's packages do not change the collection.
PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "transformers": "transformers",
    "datasets": "datasets",
    "accelerate": "accelerate",
    "peft": "peft",
    "huggingface_hub": "huggingface-hub",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "evaluate": "evaluate",
    "sympy": "sympy",
    "networkx": "networkx",
    "pandas": "pandas",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "mpmath": "mpmath",
    "jinja2": "jinja2",
    "pyarrow": "pyarrow",
    "fsspec": "fsspec",
    "aiohttp": "aiohttp",
    "PIL": "pillow",
    "pyparsing": "pyparsing",
    "tqdm": "tqdm",
    "bm25s": "bm25s",
    "ir_measures": "ir-measures",
}
SPLITS = ("train", "dev", "test")
HELD_OUT_SHARE = 40  # one query of 40 is a test query and one a dev query: about 500 each
RULES_VERSION = 1  # part of the cache key: raise it when docstring_pairs.py or docstrings.py choose differently
QUERY_FEATURES = Features({"query_id": Value("string"), "query": Value("string")})


def read_pydocs(split: str, cache_dir: str | Path | None = None) -> Collection:
    """Read the queries of `split` ("train", "dev" or "test") over the documents of all splits.

    The first call parses the packages (about half a minute) and keeps the result in `cache_dir` (default:
    `~/.cache/m3se`), under a key of the package versions; later calls open it. Raises InputError for another split.
    """
    if split not in SPLITS:
        raise InputError(f"pydocs has no split {split!r}; expected one of {', '.join(SPLITS)}")
    return _open(_prepare(cache_dir), split)


def read_pydocs_documents(cache_dir: str | Path | None = None) -> DocumentTable:
    """Read the documents alone, as `read_pydocs` prepares them."""
    return DocumentTable.load(_prepare(cache_dir) / "documents")


def pydocs_state() -> State:
    """Look at what decides on the collection: the installed versions, and the rules that choose docstrings."""
    return State.read([Path(__file__).parent], ("python", *PACKAGES.values()))


def _prepare(cache_dir: str | Path | None) -> Path:
    """Return the folder of the collection in the cache, parsed first where it is not there."""
    versions = {"python": package_version("python")}
    versions |= zip(PACKAGES, map(package_version, PACKAGES.values()), strict=True)
    folder = _cache_folder(cache_dir, versions)
    if reusable(folder):
        logger.info("pydocs: reusing %s", folder)
    else:
        _build(folder, versions)
    return folder


def assign_split(name: str) -> str:
    """Return the split of the docstring with this qualified name, whatever else is installed."""
    return {0: "test", 1: "dev"}.get(_hash(name) % HELD_OUT_SHARE, "train")


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def _cache_folder(cache_dir: str | Path | None, versions: dict[str, str | None]) -> Path:
    return cache_root(cache_dir) / f"pydocs-{cache_key(RULES_VERSION, versions)}"


def _build(folder: Path, versions: dict[str, str | None]) -> None:
    dropped: Counter[str] = Counter()
    pairs = sorted(_distinct(_pairs(versions, dropped), dropped), key=lambda pair: _hash(pair[0]))
    rows: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for pair in pairs:
        rows[assign_split(pair[0])].append(pair)
    if len(rows) < len(SPLITS):
        raise InputError(f"pydocs: only {len(pairs)} usable docstrings; are the packages installed as sources?")
    packages = {name: version for name, version in versions.items() if version}
    report = {
        "packages": packages,
        "packages_not_installed": sorted(versions.keys() - packages.keys()),
        "docstrings": dropped.total() + len(pairs),
        "dropped": dict(dropped),
        "documents": len(pairs),
    }
    with complete_folder(folder, replace=False) as new:
        names, _, texts = zip(*pairs, strict=True)
        DocumentTable.from_texts(names, texts).write_into(new / "documents")
        for split in SPLITS:
            queries = ({"query_id": f"q:{name}", "query": query} for name, query, _ in rows[split])
            write_rows(queries, QUERY_FEATURES, new / f"{split}.arrow")
        (new / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")


def _pairs(versions: dict[str, str | None], dropped: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (qualified name, query, document) of every usable docstring, in the order of packages and files."""
    files = standard_library_files()
    for package in PACKAGES:
        files += installed_files(package) if versions[package] else []
    for module, file in tqdm(files, desc="pydocs: reading docstrings", unit="file"):
        for name, documentation in docstrings(module, file):
            pair = make_pair(name, documentation)
            if isinstance(pair, str):
                dropped[pair] += 1
            else:
                yield name, *pair


def _distinct(pairs: Iterator[tuple[str, str, str]], dropped: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Keep the first pair of each name, query and body: twins would be relevant documents with label 0."""
    seen: dict[str, set[str]] = {"name": set(), "query": set(), "document": set()}
    for name, query, document in pairs:
        keys = {"name": name, "query": query.lower(), "document": document.partition("\n")[2]}
        repeated = next((part for part, key in keys.items() if key in seen[part]), None)
        if repeated:
            dropped[f"{repeated} repeated"] += 1
            continue
        for part, key in keys.items():
            seen[part].add(key)
        yield name, query, document


def _open(folder: Path, split: str) -> Collection:
    rows = Dataset.from_file(str(folder / f"{split}.arrow"))
    queries = dict(zip(rows["query_id"][:], rows["query"][:], strict=True))
    qrels = {query: {query.removeprefix("q:"): 1.0} for query in queries}
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    report |= {"source": "pydocs", "split": split, "queries": len(queries), "judgments": len(queries)}
    report["positives_per_query"] = 1.0
    return Collection("pydocs", DocumentTable.load(folder / "documents"), queries, qrels, report)
