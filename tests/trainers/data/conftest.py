import datasets
import pytest
from hypothesis import HealthCheck, settings


# A busy machine is slow, and that is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def write(tmp_path):
    """Write a text file under a name relative to the test's folder; returns its path."""

    def write_file(name, text):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write_file


@pytest.fixture
def own_datasets_cache(tmp_path, monkeypatch):
    """Let `datasets` keep what it prepares in a folder of this test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
