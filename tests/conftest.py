import gc
import os
import sys


os.environ["OMP_NUM_THREADS"] = "1"  # four times faster on tensors this small, also in processes that tests start

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.worlds import tiny  # noqa: E402


torch.set_num_threads(1)  # for a process that had torch before this file
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


LONGEST = (
    "test_make_retriever",
    "test_training_equalities",
    "test_publish",
    "test_upload",
    "test_benchmark",
    "test_distributed",
    "test_interrupted_scoring",
    "test_disturbances",
    "test_distillation_trainer",
    "test_diagnose",
    "test_distill",
    "test_distill_data",
    "test_command",
    "test_threads",
    "test_portable",
    "test_compiling",
    "test_stopping",
    "test_lora",
    "test_reproduce",
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def two_threads():
    """Let torch use two threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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
    """Put the longest files first, so that workers end together; skip what only Linux can do."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    if sys.platform != "linux":
        for item in items:
            if item.get_closest_marker("linux"):
                item.add_marker(pytest.mark.skip(reason="forks a process that has loaded torch, or reads /proc"))


def pytest_collection_finish():
    """Freeze what was imported: Trainer collects garbage often, and would take half of the time to look through it."""
    gc.collect()
    gc.freeze()
