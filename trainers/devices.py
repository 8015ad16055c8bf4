"""The processor that models run on, and the number format that it multiplies in."""

import torch

from m3se.trainers.errors import InputError


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def default_device() -> torch.device:
    """Return the GPU of this process if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: str | None, device: torch.device | str) -> torch.dtype:
    """Return the number format of a name; None and "auto" stand for bfloat16 where it is fast.

    Raises:
        InputError: a name of no format.
    """
    if name in (None, "auto"):
        return autocast_dtype(device)
    if name not in DTYPES:
        raise InputError(f"dtype: expected auto, {' or '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


def autocast_dtype(device: torch.device | str) -> torch.dtype:
    """Return bfloat16 where the processor multiplies in it (AMX, AVX512-BF16, recent GPUs), float32 elsewhere."""
    kind = torch.device(device).type
    if kind == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if has_bf16 else torch.float32
