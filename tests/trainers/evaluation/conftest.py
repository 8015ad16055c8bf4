import pytest

from tests.trainers.evaluation import tiny
from trainers.data import Collection, DocumentTable


@pytest.fixture
def collection():
    table = DocumentTable.from_texts(list(tiny.DOCUMENTS), list(tiny.DOCUMENTS.values()))
    qrels = {query: dict(judged) for query, judged in tiny.QRELS.items()}
    return Collection("words", table, dict(tiny.QUERIES), qrels)


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
