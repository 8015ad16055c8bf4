"""Models of every kind by OpenVINO and ONNX Runtime: torch's scores in float32, and an int8 that is what it says."""

import json
from functools import partial

import numpy as np
import pytest
from scipy.stats import kendalltau

from m3se.trainers.backends.choice import Backend, choose_backend
from m3se.trainers.backends.compiling import compile_scorer
from m3se.trainers.backends.loss import Loss
from m3se.trainers.backends.runtime import CompiledEncoder
from m3se.trainers.backends.samples import document_sample, halves
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval import embed_texts
from m3se.trainers.retrieval.loading import load_scorer
from tests.worlds import judges, tiny


pytestmark = pytest.mark.long
KINDS = {
    "untied": partial(tiny.dual_encoder, tied=False, pooling="cls", projection_size=6, normalize=True),
    "colbert": partial(tiny.colbert, mask_augmentation="fill"),
    "cross-encoder": tiny.cross_encoder,
}
NEEDS = {"openvino": ("openvino", "nncf"), "onnx": ("onnxruntime", "onnxscript")}


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    """Save a model and its tokenizer -> the folder."""

    def save(model):
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module", params=NEEDS)
def backend(request):
    for package in NEEDS[request.param]:
        pytest.importorskip(package)
    return request.param


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def sample():
    return document_sample(tiny.ranking_lists().documents)


@pytest.fixture(scope="module")
def model(save):
    return save(tiny.dual_encoder(scale=3.0))


@pytest.fixture(scope="module")
def int8(model, backend, sample, cache):
    """A dual encoder in int8, and its loss."""
    scorer = load_scorer(model, "float32")
    return scorer, compile_scorer(scorer, choose_backend(backend, "int8"), sample, cache)


@pytest.fixture(scope="module")
def sentence_transformer(save, tmp_path_factory):
    """A model of sentence-transformers with an encoder for each side."""
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    from sentence_transformers import SentenceTransformer

    sides = []
    for seed in (0, 1):
        transformer = modules.Transformer(str(save(tiny.dual_encoder(seed).encoder)))
        sides.append([transformer, modules.Pooling(16, pooling_mode="mean")])
    router = modules.Router.for_query_document(query_modules=sides[0], document_modules=sides[1])
    folder = tmp_path_factory.mktemp("router")
    SentenceTransformer(modules=[router], device="cpu").save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("kind", [*KINDS, "sentence-transformers"])
def test_float32_gives_the_scores_of_torch(kind, save, cache, request):
    pytest.importorskip("openvino")
    lists = tiny.ranking_lists()
    folder = save(KINDS[kind]()) if kind in KINDS else request.getfixturevalue("sentence_transformer")
    scorer = load_scorer(folder, "float32")
    expected = scorer.score_lists(lists, progress=False)
    before = scorer.fingerprint
    assert compile_scorer(scorer, choose_backend("openvino", "float32"), cache_dir=cache) is None
    assert all(isinstance(getattr(*slot), CompiledEncoder) for slot in scorer.slots)
    assert scorer.fingerprint != before
    for row, scores in zip(scorer.score_lists(lists, progress=False), expected, strict=True):
        np.testing.assert_allclose(row, scores, rtol=1e-4, atol=1e-5)


def test_the_loss_is_measured_on_texts_that_int8_was_not_calibrated_on(int8, model, sample):
    scorer, loss = int8
    exact = load_scorer(model, "float32")
    taus, moved, texts = [], [], []
    for query, documents in halves(sample)[1]:
        first, second = np.array(exact.score(query, documents)), np.array(scorer.score(query, documents))
        taus.append(kendalltau(first, second).statistic)
        change = second - first
        moved += [abs(a - b) for place, a in enumerate(change) for b in change[place + 1 :]]
        texts += documents
    assert loss.kendall_tau == pytest.approx(np.mean(taus))
    assert 0 < loss.margin_moved == pytest.approx(np.mean(moved))
    vectors = [one.encode(texts, "document") for one in (exact, scorer)]
    first, second = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in vectors)
    assert loss.lowest_cosine == pytest.approx((first * second).sum(axis=1).min())
    assert 0.95 < loss.cosine < 1


def test_int8_is_made_once_and_found_again(int8, model, backend, sample, cache):
    scorer, loss = int8
    files = {file: file.stat().st_mtime_ns for file in cache.rglob("*")}
    again = load_scorer(model, "float32")
    assert compile_scorer(again, choose_backend(backend, "int8"), sample, cache) == loss
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*")} == files
    assert again.fingerprint == scorer.fingerprint
    np.testing.assert_array_equal(again.encode(["red tree"], "query"), scorer.encode(["red tree"], "query"))


def test_a_text_has_the_same_embedding_alone_and_beside_others(int8):
    texts = ["red tree", "blue green river stone cloud fish bird horse", "night", "salt iron glass"]
    together = int8[0].encode(texts, "document")
    for text, embedding in zip(texts, together, strict=True):
        np.testing.assert_allclose(int8[0].encode([text], "document")[0], embedding, atol=1e-5)


def test_threads_with_blocks_of_their_own_give_the_same_embeddings(model, backend, cache, two_threads, monkeypatch):
    scorer = load_scorer(model, "float32")
    compile_scorer(scorer, choose_backend(backend, "float32"), cache_dir=cache)
    texts = ["red tree", "blue green river stone cloud fish bird horse", "night", "salt iron glass"] * 20
    alone = np.concatenate([scorer.encode([text], "document") for text in texts])
    monkeypatch.setattr(embed_texts, "block_tokens", lambda device: 20)
    np.testing.assert_allclose(scorer.encode(texts, "document"), alone, atol=1e-5)
    assert set(getattr(*scorer.slots[0]).opened) == {False, True}  # alone, and side by side


def test_a_side_and_its_transformer_alone_have_files_of_their_own(model, backend, cache):
    expected, files = load_scorer(model, "float32").encode(["red tree"], "query"), []
    for is_whole, output in ((True, "embeddings"), (False, "last_hidden_state")):
        scorer = load_scorer(model, "float32")
        scorer.slots = scorer.slots if is_whole else scorer.transformers
        compile_scorer(scorer, choose_backend(backend, "float32"), cache_dir=cache)
        compiled = getattr(*scorer.slots[0])
        assert compiled.output == output
        np.testing.assert_allclose(scorer.encode(["red tree"], "query"), expected, atol=1e-5)
        files.append(compiled.file)
    assert files[0] != files[1]


def test_other_texts_make_another_int8_where_they_decide_on_it(int8, model, backend, sample, cache):
    other, exact = load_scorer(model, "float32"), load_scorer(model, "float32")
    loss = compile_scorer(other, choose_backend(backend, "int8"), sample[::-1], cache)
    assert loss != int8[1]  # measured on other texts
    assert len({other.fingerprint, int8[0].fingerprint, exact.fingerprint}) == (3 if backend == "openvino" else 2)


def test_what_a_kill_left_is_completed(int8, model, backend, sample, cache):
    """The loss is written last: without it everything else is there, and it is measured again."""
    (report,) = (file for file in cache.glob("*/loss-*.json") if Loss(**json.loads(file.read_text())) == int8[1])
    before = report.read_text()
    report.unlink()
    assert compile_scorer(load_scorer(model, "float32"), choose_backend(backend, "int8"), sample, cache) == int8[1]
    assert report.read_text() == before


def test_models_without_a_transformer_to_exchange_are_refused(tmp_path):
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    from sentence_transformers import SentenceTransformer

    static = modules.StaticEmbedding(tiny.tokenizer().backend_tokenizer, embedding_dim=16)
    SentenceTransformer(modules=[static], device="cpu").save_pretrained(str(tmp_path / "static"))
    judge = judges.save_judge(tmp_path / "judge", "qwen3")
    for scorer in (load_scorer(tmp_path / "static"), load_scorer(judge, template="qwen3-reranker")):
        with pytest.raises(InputError, match="this one can only be computed by torch"):
            compile_scorer(scorer, Backend("openvino", "float32"))
