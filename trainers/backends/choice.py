"""The choice of library and number format for a model's transformer, refused before any work where it cannot be."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import torch

from m3se.trainers.devices import autocast_dtype
from m3se.trainers.errors import InputError


# Packages of each library; what only int8 needs.
PACKAGES = {"torch": (), "openvino": ("openvino",), "onnx": ("onnxruntime", "onnx", "onnxscript")}
INT8_PACKAGES = {"openvino": ("nncf",), "onnx": ()}
INT8 = "int8"


@dataclass(frozen=True)
class Backend:
    """A library that computes transformers, and the number format that it multiplies in.

    Attributes:
        name: "torch", "openvino" or "onnx".
        dtype: "float32", "bfloat16", "int8" or "auto". With int8, `precision` is that of all but matrix products.
    """

    name: str = "torch"
    dtype: str = "auto"

    @property
    def is_torch(self) -> bool:
        """Tell whether models stay as they are loaded."""
        return self.name == "torch"

    @property
    def loaded_dtype(self) -> str:
        """Return the number format to load models in: float32 for those that are converted afterwards."""
        return self.dtype if self.is_torch else "float32"

    @property
    def device(self) -> torch.device | None:
        """Return the processor to load models on: the CPU for those that are converted; None: the default one."""
        return None if self.is_torch else torch.device("cpu")

    @property
    def precision(self) -> str:
        """Return "float32" or "bfloat16": the format of what is not int8."""
        if self.name == "onnx" or self.dtype == "float32":
            return "float32"
        return str(autocast_dtype("cpu")).removeprefix("torch.")

    @property
    def is_calibrated(self) -> bool:
        """Tell whether texts decide on the numbers of the format."""
        return self.name == "openvino" and self.dtype == INT8

    @property
    def packages(self) -> tuple[str, ...]:
        """Return the packages that make the files."""
        return (*PACKAGES[self.name], *(INT8_PACKAGES[self.name] if self.dtype == INT8 else ()))

    @property
    def versions(self) -> dict[str, str]:
        """Return the version of each of these packages."""
        return {name: version(name) for name in self.packages}


def choose_backend(name: str, dtype: str | None = None) -> Backend:
    """Return the backend of the options `--backend` and `--dtype`; None stands for auto.

    Raises:
        InputError: no such library, a number format that it does not have, or a package is missing.
    """
    dtype = dtype or "auto"
    if name not in PACKAGES:
        raise InputError(f"--backend: expected {', '.join(PACKAGES)}, got {name!r}")
    if name == "torch":
        if dtype == INT8:
            raise InputError("--dtype int8: torch has no int8 here; add --backend openvino or --backend onnx")
        return Backend(name, dtype)  # `choose_dtype` knows its formats
    formats = ("auto", "float32", "bfloat16", INT8) if name == "openvino" else ("auto", "float32", INT8)
    if dtype not in formats:
        raise InputError(f"--dtype: --backend {name} has {', '.join(formats)}, got {dtype!r}")
    if dtype == "bfloat16" and autocast_dtype("cpu") is not torch.bfloat16:
        raise InputError("--dtype bfloat16: this processor does not multiply in it; leave --dtype out, or take int8")
    backend = Backend(name, dtype)
    if missing := missing_packages(backend):
        raise InputError(f'{name} needs {missing[0]}, which is not installed: pip install "m3se[{name}]"')
    return backend


def missing_packages(backend: Backend) -> list[str]:
    """List the packages of a backend that are not installed."""
    return [package for package in backend.packages if find_spec(package) is None]
