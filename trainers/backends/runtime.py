"""A file of OpenVINO or ONNX Runtime as a torch module that takes the place of the transformer it was made of."""

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from m3se.trainers.backends.choice import INT8, Backend


SUFFIXES = {"openvino": ".xml", "onnx": ".onnx"}
OUTPUTS = {"last_hidden_state": BaseModelOutput, "logits": SequenceClassifierOutput, "embeddings": dict}
Compute = Callable[[dict[str, np.ndarray]], np.ndarray]  # inputs by name -> the one output


class CompiledEncoder(torch.nn.Module):
    """A transformer computed by another library, called as transformers' own are, on the CPU.

    Attributes:
        file: what it runs.
        config: that of the transformer.
        names: the inputs that it reads; others are passed over.
        output: "last_hidden_state", "logits" or "embeddings".
    """

    def __init__(self, file: Path, backend: Backend, config: PreTrainedConfig, names: list[str], output: str):
        super().__init__()
        self.file, self.config, self.names, self.output = file, config, names, output
        # ONNX Runtime takes the ranges of int8 from a whole block: a text's numbers would depend on its neighbours.
        self.is_alone = backend.name == "onnx" and backend.dtype == INT8
        self.compute = OPENERS[backend.name](file, backend)
        self.place = torch.nn.Parameter(torch.empty(0), requires_grad=False)  # tells the model around it its device

    def forward(self, **inputs: Tensor) -> Mapping[str, Tensor]:
        """Compute `output` [N, L, H], [N, labels] or [N, H] of inputs [N, L]."""
        arrays = {name: inputs[name].numpy() for name in self.names}
        values = self.one_by_one(arrays) if self.is_alone else self.compute(arrays)
        return OUTPUTS[self.output](**{self.output: torch.from_numpy(values)})

    def one_by_one(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Compute each text by itself and without its padding, for which an output [N, L, H] has zeros."""
        ids, mask = arrays["input_ids"], arrays["attention_mask"]
        lengths = last_columns((ids != (self.config.pad_token_id or 0)) | (mask > 0))
        rows = []
        for row, length in enumerate(lengths):
            values = self.compute({name: array[row : row + 1, :length] for name, array in arrays.items()})
            if values.ndim == 3:
                values = np.pad(values, ((0, 0), (0, ids.shape[1] - length), (0, 0)))
            rows.append(values)
        return np.concatenate(rows)


def last_columns(used: np.ndarray) -> np.ndarray:
    """Return for each row of `used` [N, L] the number of columns up to the last that is used, at least 1: [N]."""
    return np.maximum(used.shape[1] - used[:, ::-1].argmax(axis=1), 1)


def open_openvino(file: Path, backend: Backend) -> Compute:
    """Compile a file of OpenVINO for as many threads as torch has: one block at a time, as fast as it can."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[backend.precision],
        "ENABLE_CPU_PINNING": False,  # other processes of a launch would be pinned to the same cores
    }
    request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
    return lambda arrays: request.infer(arrays, share_inputs=True)[0]


def open_onnx(file: Path, backend: Backend) -> Compute:
    """Open a file of ONNX Runtime for as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(None, arrays)[0]


OPENERS = {"openvino": open_openvino, "onnx": open_onnx}


def silence_openvino() -> None:
    """Keep OpenVINO's converter and NNCF from sending usage figures to their makers, and from logging every step.

    Both go without their telemetry where its package cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)
    logging.getLogger("nncf").setLevel(logging.ERROR)
