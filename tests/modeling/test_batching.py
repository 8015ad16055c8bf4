import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.modeling.batching import SHORTEST_SHARE, length_blocks, map_blocks, run_in_blocks


CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(0, 50), max_size=60)


@given(lengths=LENGTHS, most=st.integers(1, 300), rows=st.none() | st.integers(1, 7))
@settings(deadline=None, max_examples=200)
def test_blocks_hold_every_text_once_and_stay_within_their_limits(lengths, most, rows):
    blocks = length_blocks(lengths, most, rows)
    assert sorted(row for block in blocks for row in block) == list(range(len(lengths)))
    for block in blocks:
        longest = lengths[block[0]]
        assert longest == max(lengths[row] for row in block)
        assert len(block) == 1 or len(block) * longest <= most
        assert rows is None or len(block) <= rows
        for size, row in enumerate(block):  # a shorter text joins only a block that is small still
            assert lengths[row] >= SHORTEST_SHARE * longest or size * longest < most // 8


def test_texts_of_one_length_fill_whole_blocks():
    assert [len(block) for block in length_blocks([10] * 25, most_tokens=100)] == [10, 10, 5]


def test_a_long_text_does_not_pad_many_short_ones():
    blocks = length_blocks([200] + [20] * 100, most_tokens=1000)
    assert blocks[0] == [0]


class Double(torch.nn.Module):
    """Twice the token ids of a text, summed; records what it was asked for."""

    def __init__(self, ids):
        super().__init__()
        self.ids, self.calls = ids, []

    def forward(self, rows, length):
        self.calls.append((len(rows), length))
        return 2 * self.ids[rows, :length].sum(dim=1, keepdim=True)


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=20), chunk=st.none() | st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_outputs_come_in_the_callers_order(lengths, chunk):
    ids = torch.arange(1, len(lengths) * 9 + 1).reshape(len(lengths), 9).double()
    ids[torch.arange(9) >= torch.tensor(lengths)[:, None]] = 0
    ids.requires_grad_()
    outputs = run_in_blocks(Double(ids), torch.tensor(lengths), chunk_size=chunk)
    torch.testing.assert_close(outputs, 2 * ids.sum(dim=1, keepdim=True))


def dropout_network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(8, 2))


def gradients(network, texts, chunk_size, seed=5):
    """Output and gradients of a pass in chunks; `chunk_size` None: all at once."""
    network.zero_grad()
    torch.manual_seed(seed)
    encode = lambda rows, length: network(texts[rows])  # noqa: E731
    outputs = run_in_blocks(encode, torch.full((len(texts),), 3), chunk_size=chunk_size)
    after = torch.rand(1)
    outputs.square().sum().backward()
    return outputs.detach(), after, [weight.grad.clone() for weight in network.parameters()]


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_have_the_gradient_of_one_pass_without_dropout(chunk_size):
    network, texts = dropout_network().eval(), torch.randn(10, 8)
    for chunked, whole in zip(gradients(network, texts, chunk_size), gradients(network, texts, None), strict=True):
        torch.testing.assert_close(chunked, whole)


def test_the_backward_pass_replays_the_dropout_of_the_forward_pass():
    """Chunk by chunk by hand, keeping every activation, must give the same numbers."""
    network, texts = dropout_network().train(), torch.randn(9, 8)
    outputs, after, found = gradients(network, texts, chunk_size=3)
    network.zero_grad()
    torch.manual_seed(5)
    by_hand = torch.cat([network(texts[start : start + 3]) for start in (0, 3, 6)])
    torch.testing.assert_close(outputs, by_hand.detach(), rtol=0, atol=0)
    assert torch.equal(after, torch.rand(1))  # and it leaves the generator where a plain pass does
    by_hand.square().sum().backward()
    for chunked, plain in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(chunked, plain.grad)


def test_chunks_keep_no_activations_between_the_passes():
    network, texts = dropout_network(), torch.randn(64, 8)
    kept = {}
    for chunk_size in (None, 4):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            run_in_blocks(lambda rows, length: network(texts[rows]), torch.full((64,), 3), chunk_size=chunk_size)
        kept[chunk_size] = sum(sizes)
    assert kept[4] < kept[None] / 4


@torch.inference_mode()
def test_threads_compute_blocks_of_their_own_in_the_callers_number_format(two_threads):
    weights, meeting = torch.ones(1, 1), threading.Barrier(2, timeout=60)  # passes only when two calls wait at once

    def describe(block):
        meeting.wait()
        product = torch.ones(1, 1) @ weights
        return block, product.dtype, torch.is_grad_enabled(), torch.get_num_threads()

    with torch.autocast("cpu", torch.bfloat16):
        outputs = list(map_blocks(describe, [[0], [1], [2], [3]], CPU))
    assert outputs == [([number], torch.bfloat16, False, 1) for number in range(4)]
    assert torch.get_num_threads() == 2
    assert {dtype for _, dtype, *_ in map_blocks(describe, [[0], [1], [2], [3]], CPU)} == {torch.float32}


def test_threads_share_a_block_where_there_are_few_or_gradients_are_wanted(two_threads):
    def thread(block):
        return threading.current_thread()

    blocks, own = [[0], [1], [2], [3]], {threading.current_thread()}
    assert set(map_blocks(thread, blocks, CPU)) == own
    with torch.no_grad():
        assert set(map_blocks(thread, blocks[:3], CPU)) == own
        assert set(map_blocks(thread, blocks, torch.device("meta"))) == own
        assert not own & set(map_blocks(thread, blocks, CPU))


def test_an_error_in_a_block_ends_the_work(two_threads):
    done = []

    def fail(block):
        done.append(block)
        time.sleep(0.05)
        raise ValueError("block")

    with torch.no_grad(), pytest.raises(ValueError, match="block"):
        list(map_blocks(fail, [[number] for number in range(100)], CPU))
    assert len(done) < 50
    assert torch.get_num_threads() == 2


def test_a_new_thread_has_all_threads_of_torch_after_blocks_were_computed(two_threads):
    with torch.no_grad():
        list(map_blocks(len, [[0]] * 8, CPU))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


@torch.no_grad()
def test_blocks_by_threads_give_the_numbers_of_one_pass(two_threads):
    network, texts = dropout_network().eval(), torch.randn(4000, 8)
    lengths = torch.arange(4000) % 10 + 1
    outputs = run_in_blocks(lambda rows, length: network(texts[rows]), lengths)
    assert len(length_blocks(lengths.tolist(), 2048)) > 8
    torch.testing.assert_close(outputs, network(texts))
