"""The sources that `--candidates` of score_with_teacher.py names: kinds of lists, files, and models that search."""

from collections.abc import Sequence
from pathlib import Path

from m3se.run_scripts.score_with_teacher import ListArguments
from m3se.trainers.data import Collection, LaterCandidates, OwnCandidates, RunFile, UnitedCandidates, candidate_source
from m3se.trainers.data.candidates import CandidateSource
from m3se.trainers.data.united import check_shares
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import is_trec_run
from m3se.trainers.models.model_info import DEMO_ENCODER
from m3se.trainers.retrieval.dense_candidates import DenseCandidates
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.retrieval.scorers import DenseScorer


KINDS = ("auto", "own", "bm25", "random")
LIST_SUFFIXES = {".trec", ".run", ".tsv", ".txt", ".gz", ".zst"}


def list_file(names: Sequence[str]) -> str | None:
    """Return the file among `--candidates` that is read as the lists of the collection, or None.

    Beside other sources a TREC run has a ranking of its own and is no such file.

    Raises:
        InputError: several are, or one is and the collection's own lists are asked for too.
    """
    files = [name for name in names if name not in KINDS and Path(name).is_file()]
    if len(names) > 1:
        files = [file for file in files if not is_trec_run(file)]
    if len(files) > 1 or (files and {"own", "auto"} & set(names)):
        raise InputError(f"--candidates: expected one source of lists beside TREC runs, got {' '.join(names)}")
    return files[0] if files else None


def load_embedders(arguments: ListArguments) -> dict[str, DenseScorer]:
    """Load the models among `--candidates`, by name.

    Raises:
        InputError: a name occurs twice, the shares do not fit, a file is missing, or a model cannot be loaded.
    """
    names = arguments.candidates
    if len(set(names)) < len(names):
        raise InputError(f"--candidates: expected different sources, got {' '.join(names)}")
    check_shares(names, arguments.candidate_shares or None)
    models = [name for name in names if name not in KINDS and not Path(name).is_file()]
    for name in models:
        is_file_name = Path(name).suffix in LIST_SUFFIXES
        if is_file_name or not (name == DEMO_ENCODER or Path(name).is_dir() or name.count("/") == 1):
            expected = f"{', '.join(KINDS)}, a file of lists, or a model"
            raise InputError(f"--candidates: expected {expected}, got {name!r}")
    return {name: load_embedder(name) for name in models}


def open_candidates(
    collection: Collection, arguments: ListArguments, embedders: dict[str, DenseScorer]
) -> CandidateSource:
    """Open the source that the options name; several are united by their ranks.

    Args:
        collection: has the documents.
        arguments: names and shares of the sources.
        embedders: the models among them, as `load_embedders` returns them.

    Raises:
        InputError: a source does not fit the collection.
    """
    sources = [open_source(name, collection, arguments, embedders) for name in arguments.candidates]
    source = sources[0]
    if len(sources) > 1:
        source = UnitedCandidates(sources, arguments.candidate_shares or None)
    return LaterCandidates(source, arguments.skip) if arguments.skip else source


def open_source(
    name: str, collection: Collection, arguments: ListArguments, embedders: dict[str, DenseScorer]
) -> CandidateSource:
    """Open one of the sources.

    Args:
        name: its kind, file or model.
        collection: has the documents.
        arguments: the settings of BM25, the seed and the cache.
        embedders: the models by name.
    """
    if name in embedders:
        encoded = cached_encoding(embedders[name], collection.documents, arguments.cache_dir)
        return DenseCandidates(embedders[name], encoded, Path(name).name if Path(name).exists() else name)
    if name == list_file(arguments.candidates):
        return OwnCandidates(collection)
    if name not in KINDS:
        return RunFile(name, collection, arguments.allow_missing)
    return candidate_source(collection, name, arguments.cache_dir, arguments.seed, **bm25_parameters(arguments))


def bm25_parameters(arguments: ListArguments) -> dict:
    """Return the settings of BM25 among the options, as `BM25Index.build` takes them."""
    stemmer = None if arguments.bm25_stemmer == "none" else arguments.bm25_stemmer
    return {"k1": arguments.bm25_k1, "b": arguments.bm25_b, "stemmer": stemmer, "tokenizer": arguments.bm25_tokenizer}
