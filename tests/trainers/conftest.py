import pytest

from m3se.trainers.data import Collection, DocumentTable
from tests.worlds import words as tiny


@pytest.fixture
def collection():
    table = DocumentTable.from_texts(list(tiny.DOCUMENTS), list(tiny.DOCUMENTS.values()))
    qrels = {query: dict(judged) for query, judged in tiny.QRELS.items()}
    return Collection("words", table, dict(tiny.QUERIES), qrels)
