import pytest
import torch

from tests.trainers.distributed_jobs import resume_job


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return resume_job(tmp_path_factory.mktemp("resume"), processes=1, checkpoints=[1, 2, 3, 4])


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_resumed_run_ends_bit_identical(step, weights):
    """With dropout, hidden tokens, drawn and in-batch negatives, masked-LM loss; inside and between epochs."""
    assert torch.equal(weights[f"at {step}"], weights["never"])
