import numpy as np

from m3se.trainers.data import DocumentTable
from m3se.trainers.retrieval.encode_collection import cached_encoding
from m3se.trainers.retrieval.paired_scorer import PairedScorer
from m3se.trainers.retrieval.search import retrieve
from tests.worlds import tiny


TEXTS = ["red river", "blue stone", "green tree"]


def test_documents_of_the_other_model_are_searched_without_loading_it(tmp_path):
    small, large = tiny.embedder(name="small"), tiny.embedder(name="large")
    loaded = []
    pair = PairedScorer(small, lambda: loaded.append(1) or large, large.fingerprint)
    documents = DocumentTable.from_texts(["a", "b", "c"], TEXTS)
    folder = cached_encoding(large, documents, tmp_path).folder
    collection = cached_encoding(pair, documents, tmp_path)
    assert collection.folder == folder
    run = retrieve(pair, {"q": "salt"}, collection, 3, progress=False)
    scores = large.encode(TEXTS, "document") @ small.encode(["salt"], "query")[0]
    assert list(run["q"]) == [["a", "b", "c"][place] for place in np.argsort(-scores)]
    assert loaded == []
    np.testing.assert_allclose(pair.score("salt", TEXTS), scores, rtol=1e-5)
    pair.encode(TEXTS, "document")
    assert loaded == [1]
    assert (pair.side_fingerprint("query"), pair.side_fingerprint("document")) == ("small 16", "large 16")


def test_a_fingerprint_that_nobody_wrote_down_is_that_of_the_loaded_model():
    pair = PairedScorer(tiny.embedder(name="small"), lambda: tiny.embedder(name="large"), None)
    assert pair.side_fingerprint("document") == "large 16"
