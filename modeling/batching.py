"""Encoding of texts of mixed length without paying for padding.

Texts are sorted by length and cut into blocks whose lengths are alike; each block is trimmed to its own longest text.
The result is the same as one padded batch, in the callers' order. Where no gradient is wanted, every core of a CPU
computes blocks of its own.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


T = TypeVar("T")
SHORTEST_SHARE = 0.85  # a text this much shorter than the longest of a block starts a new one


def block_tokens(device: torch.device) -> int:
    """Return the tokens of one block: few on a CPU, whose caches must hold them, many on a GPU, for large kernels."""
    return 2048 if device.type == "cpu" else 131072


def length_blocks(lengths: list[int], most_tokens: int, block_rows: int | None = None) -> list[list[int]]:
    """Group row numbers of texts by similar length, longest first.

    A block holds at most `most_tokens` padded tokens (at least one text), at most `block_rows` texts, and no text
    shorter than 85% of its longest unless the block would be too small to use the processor well.
    """
    blocks: list[list[int]] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        size = len(blocks[-1]) if blocks else 0
        full = (size + 1) * longest > most_tokens or size == block_rows
        unlike = lengths[row] < SHORTEST_SHARE * longest and size * longest >= most_tokens // 8
        if size == 0 or full or unlike:
            blocks.append([])
            longest = lengths[row]
        blocks[-1].append(row)
    return blocks


def run_in_blocks(
    encode: Callable[[Tensor, int], Tensor], lengths: Tensor, *, chunk_size: int | None = None
) -> Tensor:
    """Call `encode(rows [n], length) -> [n, ...]` on blocks of similar length; lengths [N] -> outputs [N, ...].

    With `chunk_size`, blocks hold at most that many texts and keep only their outputs: the backward pass encodes each
    block again, with the same dropout (gradient caching, Gao et al. 2021). Memory then grows with the chunk, not
    with N. Without gradients `encode` is called as by `map_blocks`.
    """
    is_cached = chunk_size is not None and torch.is_grad_enabled()

    def encode_block(block: list[int]) -> Tensor:
        """Encode the texts of a block."""
        rows = torch.tensor(block, device=lengths.device)
        longest = max(int(lengths[block[0]]), 1)
        return checkpoint(encode, rows, longest, use_reentrant=False) if is_cached else encode(rows, longest)

    blocks = length_blocks(lengths.tolist(), block_tokens(lengths.device), chunk_size)
    outputs = list(map_blocks(encode_block, blocks, lengths.device))
    order = torch.tensor(list(chain.from_iterable(blocks)), device=lengths.device)
    return torch.cat(outputs)[order.argsort()]


def map_blocks(encode: Callable[[list[int]], T], blocks: list[list[int]], device: torch.device) -> Iterator[T]:
    """Call `encode` on each block, and yield what it returns in the order of the blocks.

    On a CPU, without gradients and with two blocks or more for each of torch's threads, each thread computes blocks of
    its own. Threads that share a block wait for each other after every product of matrices.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or torch.is_grad_enabled() or threads == 1 or len(blocks) < 2 * threads:
        yield from map(encode, blocks)
        return
    autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    try:
        with ThreadPoolExecutor(threads, initializer=partial(prepare_thread, *autocast)) as pool:
            yield from pool.map(encode, blocks)
    finally:
        torch.set_num_threads(threads)  # for threads that are started later: each takes over the last number set


def prepare_thread(has_autocast: bool, dtype: torch.dtype) -> None:
    """Let a new thread compute alone, without gradients, and in the number format of the thread that started it."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.set_autocast_enabled("cpu", has_autocast)
    torch.set_autocast_dtype("cpu", dtype)
    torch.autocast_increment_nesting()  # weights that were cast once are kept until the whole work is done
