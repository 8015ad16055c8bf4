"""A transformer as a file of OpenVINO or ONNX Runtime, checked against torch. Batch and length are free."""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from m3se.trainers.backends.choice import Backend
from m3se.trainers.backends.runtime import CompiledEncoder, silence_openvino
from m3se.trainers.errors import InputError, first_line


CLOSE = 1e-4  # of the largest number: other kernels round otherwise, and the layers add it up

FREE = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}  # axes of an input: batch and length


class Encoder(torch.nn.Module):
    """A transformer with positional inputs and one output, as exporters want it."""

    def __init__(self, encoder: PreTrainedModel, names: list[str], output: str):
        super().__init__()
        self.encoder, self.names, self.output = encoder, names, output

    def forward(self, *values: Tensor) -> Tensor:
        """Return the output for inputs in the order of their names."""
        return self.encoder(**dict(zip(self.names, values, strict=True)))[self.output]


def convert(encoder: PreTrainedModel, batch: dict[str, Tensor], output: str, backend: Backend, file: Path) -> None:
    """Write a transformer as `file`, and compare it with torch on the batch and on its first text alone.

    Args:
        encoder: the transformer, in evaluation mode.
        batch: its inputs [N, L] by name, N and L at least 2; their texts are of different lengths.
        output: "last_hidden_state", "logits" or "embeddings".
        backend: the library.
        file: is written in a folder that exists.

    Raises:
        InputError: this architecture cannot be converted, or the library computes something else than torch.
    """
    wrapped = Encoder(encoder, list(batch), output).eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporters' own, on names of axes and on their dependencies
            WRITERS[backend.name](wrapped, batch, file)
        check_parity(wrapped, batch, backend, file)
    except (InputError, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever an architecture's own code raises while it is traced
        kind, reason = encoder.config.model_type, first_line(error)
        raise InputError(f"{backend.name}: a {kind} model cannot be converted: {reason}") from error


def write_openvino(encoder: Encoder, batch: dict[str, Tensor], file: Path) -> None:
    """Write the .xml and .bin of OpenVINO, in float32."""
    silence_openvino()
    import openvino

    shapes = {"values": (FREE,) * len(batch)}
    model = openvino.convert_model(torch.export.export(encoder, tuple(batch.values()), dynamic_shapes=shapes))
    for number, name in enumerate(batch):
        model.input(number).get_tensor().set_names({name})
        model.input(number).node.set_friendly_name(name)
    model.output(0).get_tensor().set_names({encoder.output})
    openvino.save_model(model, file, compress_to_fp16=False)


def write_onnx(encoder: Encoder, batch: dict[str, Tensor], file: Path) -> None:
    """Write the .onnx of ONNX Runtime, in float32."""
    for chatty in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    torch.onnx.export(
        encoder,
        tuple(batch.values()),
        file,
        input_names=list(batch),
        output_names=[encoder.output],
        dynamic_shapes={"values": (FREE,) * len(batch)},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


WRITERS = {"openvino": write_openvino, "onnx": write_onnx}


@torch.no_grad()
def check_parity(encoder: Encoder, batch: dict[str, Tensor], backend: Backend, file: Path) -> None:
    """Raise InputError unless a file gives torch's numbers for the batch, and for each of its texts alone.

    Args:
        encoder: the transformer in torch.
        batch: its inputs [N, L] by name.
        backend: the library of the file.
        file: what `convert` wrote.
    """
    exact = Backend(backend.name, "float32")
    compiled = CompiledEncoder(file, exact, encoder.encoder.config, list(batch), encoder.output)
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    parts = [batch]
    for row, length in enumerate(lengths):
        parts.append({name: values[row : row + 1, :length] for name, values in batch.items()})
    for part in parts:
        expected, values = encoder(*part.values()), compiled(**part)[encoder.output]
        if encoder.output == "last_hidden_state":  # of padding nobody reads
            is_text = part["attention_mask"].bool()
            expected, values = expected[is_text], values[is_text]
        difference = float((values - expected).abs().max())
        if not difference <= CLOSE * max(1.0, float(expected.abs().max())):
            raise InputError(f"{backend.name}: the converted model and torch differ by {difference:.2g}")
