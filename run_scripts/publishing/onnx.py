"""The encoder for ONNX Runtime, by torch.onnx alone (extra `onnx`)."""

import warnings
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.cross_encoder import CrossEncoder
from m3se.trainers.errors import InputError


class Encoder(torch.nn.Module):
    """A backbone with positional inputs and one output, as the exporter wants it."""

    def __init__(self, encoder: PreTrainedModel, inputs: list[str], output: str):
        super().__init__()
        self.encoder, self.inputs, self.output = encoder, inputs, output

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """Return the backbone's output for inputs in the order of their names."""
        return self.encoder(**dict(zip(self.inputs, values, strict=True)))[self.output]


def export_onnx(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write the backbone's last_hidden_state (a cross-encoder's logits) as `path`, and check it against torch.

    Batch and length are free. Pooling, projection and MaxSim are left to the caller, as with the plain backbone.

    Raises:
        InputError: the extra is missing, the model has a second encoder, or ONNX Runtime computes something else.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it, and says so less clearly
    except ImportError as error:
        raise InputError(f"onnx: {error.name} is missing: pip install -e '.[onnx]'") from error
    if model.config.to_dict().get("tied") is False:
        raise InputError("onnx: queries and documents have encoders of their own; only one can be onnx/model.onnx")
    paired = isinstance(model, CrossEncoder)
    texts = ["a short text", "another text, which is a little longer than that"]
    batch = tokenizer(texts, texts[::-1] if paired else None, padding=True, return_tensors="pt")
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch]
    if not paired or model.encoder.config.to_dict().get("type_vocab_size", 1) < 2:
        names = names[:2]
    output = "logits" if paired else "last_hidden_state"
    encoder, inputs = Encoder(model.encoder, names, output).eval(), tuple(batch[name] for name in names)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = {0: torch.export.Dim("batch", max=2**20), 1: torch.export.Dim("length", max=2**20)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, on names of axes
        torch.onnx.export(
            encoder,
            inputs,
            path,
            input_names=names,
            output_names=[output],
            dynamic_shapes={"values": (free,) * len(names)},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    check_parity(onnxruntime.InferenceSession(str(path)), encoder, tokenizer, paired, names)


def check_parity(session, encoder: Encoder, tokenizer, paired: bool, names: list[str]) -> None:
    """Raise InputError unless ONNX Runtime agrees with torch to 1e-4, on a batch of another shape than exported.

    Args:
        session: ONNX Runtime's session of the exported file.
        encoder: the same in torch.
        tokenizer: makes the batch.
        paired: whether texts are read in pairs.
        names: names of the inputs.
    """
    texts = ["one", "two texts of different lengths, and this one goes on for a while", "three"]
    batch = tokenizer(texts, texts[::-1] if paired else None, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = encoder(*(batch[name] for name in names))
    output = torch.from_numpy(session.run(None, {name: batch[name].numpy() for name in names})[0])
    if not paired:
        expected, output = expected[batch["attention_mask"].bool()], output[batch["attention_mask"].bool()]
    difference = (output - expected).abs().max().item()
    if not difference <= 1e-4 * max(1.0, expected.abs().max().item()):
        raise InputError(f"onnx: ONNX Runtime and torch differ by {difference:.2g}")
