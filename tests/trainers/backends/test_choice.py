"""Libraries and number formats that do not go together, refused in one line."""

import sys

import pytest
import torch

from m3se.trainers.backends import choice
from m3se.trainers.backends.choice import choose_backend
from m3se.trainers.errors import InputError


def test_torch_stays_as_it_is():
    backend = choose_backend("torch", "bfloat16")
    assert (backend.loaded_dtype, backend.device) == ("bfloat16", None)


@pytest.mark.parametrize(
    "name, dtype, message",
    [
        ("tensorflow", "auto", "--backend: expected torch, openvino, onnx, got 'tensorflow'"),
        ("torch", "int8", "--dtype int8: torch has no int8 here; add --backend openvino or --backend onnx"),
        ("onnx", "bfloat16", "--dtype: --backend onnx has auto, float32, int8, got 'bfloat16'"),
        ("openvino", "int4", "--dtype: --backend openvino has auto, float32, bfloat16, int8, got 'int4'"),
    ],
)
def test_what_does_not_go_together_is_refused(name, dtype, message):
    with pytest.raises(InputError) as error:
        choose_backend(name, dtype)
    assert str(error.value) == message


def test_bfloat16_is_refused_where_the_processor_does_not_have_it(monkeypatch):
    monkeypatch.setattr(choice, "autocast_dtype", lambda device: torch.float32)
    with pytest.raises(InputError, match="this processor does not multiply in it"):
        choose_backend("openvino", "bfloat16")


@pytest.mark.parametrize("name, package", [("openvino", "openvino"), ("openvino", "nncf"), ("onnx", "onnxruntime")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(name, package, monkeypatch):
    installed = {"openvino", "nncf", "onnxruntime", "onnx", "onnxscript"} - {package}
    monkeypatch.setattr(choice, "find_spec", lambda wanted: wanted in installed or None)
    with pytest.raises(InputError) as error:
        choose_backend(name, "int8")
    assert str(error.value) == f'{name} needs {package}, which is not installed: pip install "m3se[{name}]"'


def test_openvino_in_float32_does_without_nncf(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert choose_backend("openvino", "float32").precision == "float32"
