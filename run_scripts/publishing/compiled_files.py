"""Files of a model for OpenVINO and ONNX Runtime, where sentence-transformers and fastembed look for them."""

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from m3se.run_scripts.cli.arguments import CandidateArguments
from m3se.run_scripts.work.candidates import find_candidates
from m3se.run_scripts.work.models import COMPARED, compile_ranker
from m3se.trainers.backends.choice import INT8, Backend, choose_backend
from m3se.trainers.backends.samples import HALF
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.reranking import Candidates
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.scorers import DenseScorer


PLACES = {
    ("openvino", "float32"): "openvino/openvino_model.xml",
    ("openvino", INT8): "openvino/openvino_model_qint8_quantized.xml",
    ("onnx", "float32"): "onnx/model.onnx",
    ("onnx", INT8): "onnx/model_qint8_quantized.onnx",
}
DEPTH = 20  # BM25 candidates of a query that int8 is measured on


@dataclass(frozen=True)
class CompiledFiles:
    """The choice of files to add to a published folder.

    Attributes:
        openvino, onnx: "float32", "int8" (both formats then), or None for no file of that library.
        calibration, calibration_split: collection whose texts int8 is calibrated and measured on, and which queries.
        cache_dir: where it is prepared, and where files are made (None: a temporary folder).
    """

    openvino: str | None = None
    onnx: str | None = None
    calibration: str | None = None
    calibration_split: str = "test"
    cache_dir: str | None = None

    def backends(self) -> list[Backend]:
        """Return library and number format of each file.

        Raises:
            InputError: another format, int8 without texts, or a package is missing.
        """
        backends = []
        for name, number_format in (("openvino", self.openvino), ("onnx", self.onnx)):
            if number_format is None:
                continue
            if (name, number_format) not in PLACES:
                raise InputError(f"--{name}: expected float32 or int8, got {number_format!r}")
            if number_format == INT8 and self.calibration is None:
                raise InputError(
                    f"--{name} int8: name with --calibration the collection whose texts it is calibrated and "
                    "measured on"
                )
            backends.append(choose_backend(name, "float32"))
            if number_format == INT8:
                backends.append(choose_backend(name, INT8))
        return backends


def add_files(model: Path, folder: Path, files: CompiledFiles) -> dict:
    """Write the chosen files of a trained model into its published folder.

    Args:
        model: directory of the trained model.
        folder: the published folder.
        files: the choice.

    Returns:
        Values of the card: `compiled`, for each file its name, library, format and for int8 the loss (see
        `compile_ranker`), and `calibration`; none without files.

    Raises:
        InputError: a model with two encoders, or as `compile_ranker`.
    """
    backends, rows = files.backends(), []
    is_int8 = any(backend.dtype == INT8 for backend in backends)
    with TemporaryDirectory() if files.cache_dir is None else nullcontext(files.cache_dir) as cache:
        candidates = find_candidates(calibration_arguments(files, cache)) if is_int8 else None
        for backend in backends:
            rows.append(add_file(model, folder, backend, candidates, Path(cache)))
    calibration = {"calibration": Path(files.calibration).name} if is_int8 else {}
    return {"compiled": rows, **calibration} if rows else {}


def add_file(model: Path, folder: Path, backend: Backend, candidates: Candidates | None, cache_dir: Path) -> dict:
    """Write the file of one library in one format, and return what the card says of it.

    Args:
        model, folder: as in `add_files`.
        backend: library and format.
        candidates: what int8 is measured on.
        cache_dir: where the file is made.
    """
    scorer = load_scorer(model, "float32", device="cpu")
    if isinstance(scorer, DenseScorer):
        scorer.slots = scorer.transformers  # whoever loads the published file pools by itself
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


def calibration_arguments(files: CompiledFiles, cache_dir: str) -> CandidateArguments:
    """Return the options of the queries and BM25 candidates that int8 is calibrated and measured on."""
    return CandidateArguments(
        data=files.calibration,
        split=files.calibration_split,
        depth=DEPTH,
        max_queries=HALF + COMPARED,
        cache_dir=cache_dir,
    )
