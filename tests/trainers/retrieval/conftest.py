import pytest

from tests.worlds import words as tiny


@pytest.fixture(scope="session")
def dual_encoder(tmp_path_factory):
    return tiny.save_dual_encoder(tmp_path_factory.mktemp("dual_encoder"))


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory):
    return tiny.save_cross_encoder(tmp_path_factory.mktemp("cross_encoder"))


@pytest.fixture(scope="session")
def colbert(tmp_path_factory):
    return tiny.save_colbert(tmp_path_factory.mktemp("colbert"))


@pytest.fixture(scope="session")
def bare_encoder(tmp_path_factory):
    return tiny.save_bare_encoder(tmp_path_factory.mktemp("encoder"))
