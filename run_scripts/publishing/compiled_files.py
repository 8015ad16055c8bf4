"""Files of a model for OpenVINO and ONNX Runtime, where sentence-transformers and fastembed look for them."""

import shutil
from pathlib import Path

from m3se.run_scripts.cli.arguments import CandidateArguments
from m3se.run_scripts.work.backends import COMPARED, compile_ranker
from m3se.run_scripts.work.candidates import find_candidates
from m3se.trainers.backends.choice import INT8, Backend, choose_backend
from m3se.trainers.backends.samples import HALF
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.reranking import Candidates
from m3se.trainers.retrieval.loading import load_scorer


PLACES = {
    ("openvino", "float32"): "openvino/openvino_model.xml",
    ("openvino", INT8): "openvino/openvino_model_qint8_quantized.xml",
    ("onnx", "float32"): "onnx/model.onnx",
    ("onnx", INT8): "onnx/model_qint8_quantized.onnx",
}
DEPTH = 20  # BM25 candidates of a query that int8 is measured on


def choose_files(formats: dict[str, str | None], calibration: str | None) -> list[Backend]:
    """Return the files to add: of each library float32, and int8 where it is asked for.

    Args:
        formats: library -> "float32", "int8", or None for no file.
        calibration: the collection that int8 is calibrated on.

    Raises:
        InputError: another format, int8 without texts, or a package is missing.
    """
    backends = []
    for name, number_format in formats.items():
        if number_format is None:
            continue
        if (name, number_format) not in PLACES:
            raise InputError(f"--{name}: expected float32 or int8, got {number_format!r}")
        if number_format == INT8 and calibration is None:
            raise InputError(
                f"--{name} int8: name with --calibration the collection whose texts it is calibrated and measured on"
            )
        backends.append(choose_backend(name, "float32"))
        if number_format == INT8:
            backends.append(choose_backend(name, INT8))
    return backends


def add_files(
    model: Path, folder: Path, backends: list[Backend], calibration: CandidateArguments | None, cache_dir: Path
) -> list[dict]:
    """Write the files of a trained model into its published folder.

    Args:
        model: directory of the trained model.
        folder: the published folder.
        backends: libraries and formats, as `choose_files` returns them.
        calibration: queries and candidates that int8 is calibrated and measured on.
        cache_dir: where the files are made.

    Returns:
        For each file what the card says of it: file, library, format, and for int8 its loss (see `compile_ranker`).

    Raises:
        InputError: a model with two encoders, or as `compile_ranker`.
    """
    is_int8 = any(backend.dtype == INT8 for backend in backends)
    candidates = find_candidates(calibration) if is_int8 else None
    rows = []
    for backend in backends:
        rows.append(add_file(model, folder, backend, candidates, cache_dir))
    return rows


def add_file(model: Path, folder: Path, backend: Backend, candidates: Candidates | None, cache_dir: Path) -> dict:
    """Write the file of one library in one format, and return what the card says of it; as `add_files`."""
    scorer = load_scorer(model, "float32", device="cpu")
    if len(scorer.slots) != 1:
        raise InputError(
            f"{backend.name}: queries and documents have encoders of their own; only one can be in the published file"
        )
    lists, qrels = (candidates.lists, candidates.qrels) if candidates else (None, {})
    facts = compile_ranker(scorer, backend, lists, qrels, cache_dir)
    owner, attribute = scorer.slots[0]
    source, target = getattr(owner, attribute).file, folder / PLACES[backend.name, backend.dtype]
    target.parent.mkdir(exist_ok=True)
    shutil.copy(source, target)
    if source.with_suffix(".bin").exists():  # the weights of OpenVINO
        shutil.copy(source.with_suffix(".bin"), target.with_suffix(".bin"))
    row = {"file": PLACES[backend.name, backend.dtype], "library": backend.name, "format": backend.dtype}
    return row | {"loss": facts.get("int8")}


def calibration_arguments(data: str, split: str, cache_dir: str) -> CandidateArguments:
    """Return the options of the queries and BM25 candidates that int8 is calibrated and measured on."""
    return CandidateArguments(data=data, split=split, depth=DEPTH, max_queries=HALF + COMPARED, cache_dir=cache_dir)
