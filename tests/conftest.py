import pytest
import torch

from tests import tiny


torch.set_num_threads(1)  # four times faster on tensors this small


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def lists():
    return tiny.ranking_lists()


@pytest.fixture
def dual_encoder():
    return tiny.dual_encoder().eval()


@pytest.fixture
def cross_encoder():
    return tiny.cross_encoder().eval()
