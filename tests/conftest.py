import gc
import os


os.environ["OMP_NUM_THREADS"] = "1"  # four times faster on tensors this small, also in processes that tests start

import pytest  # noqa: E402
import torch  # noqa: E402

from tests.worlds import tiny  # noqa: E402


torch.set_num_threads(1)  # for a process that had torch before this file


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


def pytest_collection_modifyitems(items):
    """The longest file first: beside it the other workers do all the rest."""
    items.sort(key=lambda item: item.path.name != "test_quickstart.py")


def pytest_collection_finish():
    """Trainer collects garbage again and again; to look through all that was imported would take half of the time."""
    gc.collect()
    gc.freeze()
