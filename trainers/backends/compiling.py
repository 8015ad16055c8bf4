"""Scorers whose transformers OpenVINO or ONNX Runtime computes. Files are made once, and kept in the cache.

Scores and embeddings of another library or in int8 have a fingerprint of their own, so that caches never mix them.
"""

import json
import logging
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from m3se.trainers.backends.choice import INT8, Backend
from m3se.trainers.backends.conversion import convert
from m3se.trainers.backends.loss import Loss, Outputs, compare
from m3se.trainers.backends.quantisation import quantise
from m3se.trainers.backends.runtime import OUTPUTS, SUFFIXES, CompiledEncoder
from m3se.trainers.backends.samples import Sample, halves
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.scorers import Scorer
from m3se.trainers.storage.atomic import complete_folder, write_json
from m3se.trainers.storage.cache import cache_key, cache_root, reusable


logger = logging.getLogger(__name__)

# Texts of several lengths, to see what a transformer is called with.
EXAMPLES = ["a short text", "another text that is longer than the one before it"]


class Recorder(torch.nn.Module):
    """A transformer that keeps the inputs of every call, and the name of its output."""

    def __init__(self, encoder: PreTrainedModel):
        super().__init__()
        self.encoder, self.config = encoder, encoder.config
        self.calls: list[dict[str, Tensor]] = []
        self.output = "last_hidden_state"

    def forward(self, **inputs):
        """Call the transformer."""
        self.calls.append({name: value for name, value in inputs.items() if isinstance(value, Tensor)})
        outputs = self.encoder(**inputs)
        self.output = next(name for name in OUTPUTS if name in outputs)
        return outputs


def compile_scorer(
    scorer: Scorer, backend: Backend, sample: Sample = (), cache_dir: str | Path | None = None
) -> Loss | None:
    """Let another library than torch compute the transformers of a scorer that was loaded in float32 on the CPU.

    Args:
        scorer: is changed, its fingerprint too.
        backend: the library and number format; torch changes nothing.
        sample: queries and documents; int8 is calibrated on its first half and measured on the second. Other formats
            need none.
        cache_dir: where the files are kept (default: ~/.cache/m3se).

    Returns:
        How far int8 is from float32; None for other formats.

    Raises:
        InputError: a model without a transformer, or an architecture that cannot be converted.
    """
    if backend.is_torch:
        return None
    refuse_other_kinds(scorer, backend)
    root, is_int8 = cache_root(cache_dir), backend.dtype == INT8
    calibration, held_out = halves(sample) if is_int8 else ((), ())
    calibration = calibration if backend.is_calibrated else ()
    examples = record(scorer, example=True)
    folder = exact = converted(scorer, examples, backend, root)
    if is_int8:
        folder = quantised(scorer, exact, calibration, backend, root)
    report = folder / f"loss-{cache_key(held_out)}.json"
    before = Outputs.compute(scorer, held_out) if is_int8 and not report.exists() else None
    outputs = [example.output for example in examples]
    identity = [scorer.fingerprint, backend.name, is_int8, backend.precision, calibration, outputs]
    scorer.fingerprint = blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()
    for number, (owner, attribute) in enumerate(scorer.slots):
        file, config = folder / file_name(number, backend), getattr(owner, attribute).config
        names, output = list(examples[number].calls[0]), examples[number].output
        setattr(owner, attribute, CompiledEncoder(file, backend, config, names, output))
    if before is not None:
        write_json(report, compare(before, Outputs.compute(scorer, held_out)).as_dict())
    return Loss(**json.loads(report.read_text(encoding="utf-8"))) if is_int8 else None


def refuse_other_kinds(scorer: Scorer, backend: Backend) -> None:
    """Raise InputError for a model whose transformer cannot be exchanged, unless the backend is torch."""
    if not backend.is_torch and not scorer.slots:
        raise InputError(
            f"--backend {backend.name}: expected a model that embeds texts or classifies pairs by a transformer; "
            "this one can only be computed by torch"
        )


def record(scorer: Scorer, sample: Sample = (), example: bool = False) -> list[Recorder]:
    """Return, for each transformer of a scorer, what it is called with for a sample, or for two texts of each side."""
    recorders = []
    for owner, attribute in scorer.slots:
        recorders.append(Recorder(getattr(owner, attribute)).eval())
        setattr(owner, attribute, recorders[-1])
    try:
        if example:
            scorer.score_matrix(EXAMPLES, EXAMPLES)
        for query, documents in sample:
            scorer.score(query, documents)
    finally:
        for (owner, attribute), recorder in zip(scorer.slots, recorders, strict=True):
            setattr(owner, attribute, recorder.encoder)
    return recorders


def converted(scorer: Scorer, examples: list[Recorder], backend: Backend, root: Path) -> Path:
    """Return the folder of a scorer's transformers in float32, one file each, made if the cache lacks it."""
    exact = Backend(backend.name, "float32")
    outputs = [example.output for example in examples]
    folder = root / f"compiled-{cache_key(scorer.fingerprint, exact.name, exact.dtype, exact.versions, outputs)}"
    if not reusable(folder):
        logger.info("converting the model for %s; it is kept in %s", backend.name, folder)
        with complete_folder(folder, replace=False) as files:
            for number, example in enumerate(examples):
                largest = max(example.calls, key=lambda call: len(call["input_ids"]))
                convert(example.encoder, largest, example.output, exact, files / file_name(number, exact))
    return folder


def quantised(scorer: Scorer, exact: Path, calibration: Sample, backend: Backend, root: Path) -> Path:
    """Return the folder of a scorer's transformers in int8, made if the cache lacks it.

    Args:
        scorer: still computed by torch.
        exact: the folder of the transformers in float32.
        calibration: the texts that ranges are fixed by, if the library fixes them.
        backend: the library.
        root: of the cache.
    """
    parts = scorer.fingerprint, backend.name, backend.dtype, backend.versions, calibration, exact.name
    folder = root / f"compiled-{cache_key(*parts)}"
    if not reusable(folder):
        logger.info("making int8 for %s; it is kept in %s", backend.name, folder)
        recorders = record(scorer, calibration)
        with complete_folder(folder, replace=False) as files:
            for number, recorder in enumerate(recorders):
                name = file_name(number, backend)
                quantise(exact / name, single_texts(recorder), backend, files / name)
    return folder


def single_texts(recorder: Recorder) -> list[dict[str, np.ndarray]]:
    """Return the recorded inputs text by text: [1, L] by name."""
    texts = []
    for call in recorder.calls:
        for row in range(len(call["input_ids"])):
            texts.append({name: values[row : row + 1].numpy() for name, values in call.items()})
    return texts


def file_name(number: int, backend: Backend) -> str:
    """Return the name of the file of a scorer's transformer, by its number."""
    return f"encoder_{number}{SUFFIXES[backend.name]}"
