"""A file of OpenVINO or ONNX Runtime as a torch module that takes the place of the transformer it was made of."""

import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

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
        self.open = partial(OPENERS[backend.name], file, backend)
        self.threads = torch.get_num_threads()
        self.opened: dict[bool, Compute] = {}
        self.opening = Lock()
        self.place = torch.nn.Parameter(torch.empty(0), requires_grad=False)  # tells the model around it its device

    def compute(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Compute the output: on all threads, or in one of those that compute blocks of their own (`map_blocks`)."""
        is_apart = torch.get_num_threads() < self.threads
        with self.opening:
            if is_apart not in self.opened:
                self.opened[is_apart] = self.open(self.threads, is_apart)
        return self.opened[is_apart](arrays)

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


def open_openvino(file: Path, backend: Backend, threads: int, is_apart: bool) -> Compute:
    """Compile a file of OpenVINO for one call at a time on all threads, or (`is_apart`) for one on each of them."""
    import openvino

    settings = {
        **({"NUM_STREAMS": threads} if is_apart else {"PERFORMANCE_HINT": "LATENCY"}),
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[backend.precision],
        "ENABLE_CPU_PINNING": False,  # other processes of a launch would be pinned to the same cores
    }
    model = openvino.Core().compile_model(file, "CPU", settings)
    requests: SimpleQueue = SimpleQueue()  # those that no thread uses just now
    for _ in range(threads if is_apart else 1):
        requests.put(model.create_infer_request())

    def compute(arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Compute the output with a request that no other thread uses."""
        request = requests.get()
        try:
            return request.infer(arrays, share_inputs=True)[0]
        finally:
            requests.put(request)

    return compute


def open_onnx(file: Path, backend: Backend, threads: int, is_apart: bool) -> Compute:
    """Open a file of ONNX Runtime for calls that all threads share, or (`is_apart`) that each makes alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if is_apart else threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(None, arrays)[0]


OPENERS = {"openvino": open_openvino, "onnx": open_onnx}


def silence_openvino() -> None:
    """Keep OpenVINO's converter and NNCF from sending usage figures to their makers, and from logging every step.

    Both go without their telemetry where its package cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)
    logging.getLogger("nncf").setLevel(logging.ERROR)
