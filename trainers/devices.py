"""Which number format a processor multiplies fastest in."""

import torch


def autocast_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the processor multiplies in it (AMX, AVX512-BF16, recent GPUs), float32 elsewhere."""
    kind = torch.device(device).type
    if kind == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if has_bf16 else torch.float32
