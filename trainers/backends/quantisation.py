"""Files in int8: weights and the inputs of matrix products, made of the float32 files."""

import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from m3se.trainers.backends.choice import Backend
from m3se.trainers.backends.runtime import silence_openvino


def quantise(source: Path, texts: list[dict[str, np.ndarray]], backend: Backend, target: Path) -> None:
    """Write the int8 file of a float32 one.

    OpenVINO fixes the ranges of what goes into a matrix product by what it sees in `texts` (NNCF, post-training, with
    the weights and biases adapted). ONNX Runtime measures the ranges anew in every call.

    Args:
        source: what `convert` wrote.
        texts: inputs [1, L] by name, one text each.
        backend: the library of the file.
        target: is written in a folder that exists.
    """
    QUANTISERS[backend.name](source, texts, target)


def quantise_openvino(source: Path, texts: list[dict[str, np.ndarray]], target: Path) -> None:
    """Write the int8 .xml and .bin of OpenVINO."""
    silence_openvino()
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    with redirect_stdout(sys.stderr):  # its progress bars
        quantised = nncf.quantize(
            model, nncf.Dataset(texts), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts)
        )
    openvino.save_model(quantised, target, compress_to_fp16=False)


def quantise_onnx(source: Path, texts: list[dict[str, np.ndarray]], target: Path) -> None:
    """Write the int8 .onnx of ONNX Runtime, whose weights use 7 bits: processors without VNNI add up in 16."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises every time to preprocess the file first
    try:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    finally:
        root.setLevel(level)


QUANTISERS = {"openvino": quantise_openvino, "onnx": quantise_onnx}
