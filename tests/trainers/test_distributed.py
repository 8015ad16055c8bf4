"""Two processes (gloo, one launch for all tests) do what one does with the same global batch."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.launch import launch
from tests.trainers.distributed_jobs import JOBS, do_all, evaluate_job, train_job
from tests.worlds import tiny


pytestmark = [pytest.mark.linux, pytest.mark.slow]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What the launch wrote: for each rank, final weights by job and the metrics of the evaluation."""
    folder = tmp_path_factory.mktemp("two_processes")
    launch(do_all, folder)
    metrics = [json.loads((folder / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    return [load_file(folder / f"rank{rank}.safetensors") for rank in (0, 1)], metrics


@pytest.mark.parametrize("name", JOBS)
def test_two_processes_train_like_one_with_the_same_global_batch(name, two_processes, tmp_path):
    expected = train_job(name, tmp_path, processes=1)
    start = tiny.flat_weights(JOBS[name][0]())
    assert (expected - start).abs().max() > 1e-3
    torch.testing.assert_close(two_processes[0][0][name], expected, atol=2e-6, rtol=1e-4)


def test_all_processes_hold_the_same_weights(two_processes):
    first, second = two_processes[0]
    assert first.keys() == second.keys()
    for name in first.keys() - {"gathered gradient", "share"}:
        assert torch.equal(first[name], second[name]), name


def test_each_process_embeds_its_share_of_the_uniform_negatives(two_processes):
    shares = [weights["share"].tolist() for weights in two_processes[0]]
    assert sorted(map(len, shares)) == [2, 3]
    assert len({*shares[0], *shares[1]}) == 5


def test_negatives_of_the_other_process_matter(two_processes):
    weights = two_processes[0][0]
    assert (weights["in_batch"] - weights["plain"]).abs().max() > 1e-4
    torch.testing.assert_close(weights["chunks"], weights["in_batch"], atol=2e-6, rtol=1e-4)


def test_every_process_has_the_mean_of_the_checkpoints(two_processes):
    for weights in two_processes[0]:
        assert (weights["mean_of_checkpoints"] - weights["plain"]).abs().max() > 1e-4


def test_every_process_keeps_the_share_of_the_start(two_processes):
    start = tiny.flat_weights(tiny.dual_encoder())
    for weights in two_processes[0]:
        torch.testing.assert_close(weights["start_share"], (start + weights["plain"]) / 2)


def test_rows_of_different_numbers_are_gathered_in_rank_order_and_gradients_come_back_summed(two_processes):
    first, second = two_processes[0]
    assert first["gathered"].tolist() == [[0, 1], [10, 11], [12, 13]]
    # weights 1 and 2 from the two processes: three times 1..2 for the rows of rank 0, three times 3..6 for rank 1
    assert first["gathered gradient"].tolist() == [[3, 6]]
    assert second["gathered gradient"].tolist() == [[9, 12], [15, 18]]


def test_log_and_evaluation_count_every_query_once(two_processes, tmp_path):
    expected = evaluate_job(tmp_path, processes=1)
    assert expected["skipped_queries"] == 3
    for metrics in two_processes[1]:
        assert metrics == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("step", [2, 3])
def test_a_resumed_run_of_two_processes_ends_bit_identical(step, two_processes):
    """Between epochs and inside one; test_resume.py says what is random in it."""
    weights = two_processes[0][0]
    assert torch.equal(weights[f"resumed at {step}"], weights["resumed never"])
