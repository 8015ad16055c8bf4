import pytest

from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.search import main, make_parser
from m3se.trainers.data import read_data
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval import encode_collection as encoded
from m3se.trainers.retrieval.loading import load_embedder
from tests.worlds import words as tiny


@pytest.fixture
def beir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the cache ends up there
    return tiny.write_beir(tmp_path / "words")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_dual_encoder(tmp_path_factory.mktemp("model"))


def search(*argv):
    main(*parse(make_parser(), [*map(str, argv)]))


def test_prints_the_documents_with_the_highest_inner_products(beir, model, capsys):
    search("--model", model, "--data", beir, "--top", 3, "--dtype", "float32", "vector sum", "read the file")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("7 documents searched")
    scorer, documents = load_embedder(model, "float32"), read_data(beir, "test").documents
    scores = scorer.score_matrix(["vector sum", "read the file"], documents.texts(list(documents.ids)))
    for query, start in ((0, 2), (1, 10)):
        best = sorted(zip(scores[query], documents.ids, strict=True), reverse=True)[:3]
        for rank, (score, name) in enumerate(best):
            number, shown, found = lines[start + 1 + 2 * rank].split()
            assert (number, found) == (f"{rank + 1}.", name)
            assert float(shown) == pytest.approx(score, abs=1e-3)
            assert lines[start + 2 + 2 * rank].strip() == tiny.DOCUMENTS[name][:100]


def test_the_second_search_encodes_nothing(beir, model, capsys, monkeypatch):
    search("--model", model, "--collection", beir, "--dtype", "float32", "sum")  # an option: no later one is prepared
    first = capsys.readouterr().out.splitlines()[1:]
    monkeypatch.setattr(encoded, "write_shard", None)
    search("--model", model, "--data", beir, "--dtype", "float32", "sum")
    assert capsys.readouterr().out.splitlines()[1:] == first


def test_a_cross_encoder_cannot_search(beir, tmp_path):
    model = tiny.save_cross_encoder(tmp_path / "teacher")
    with pytest.raises(InputError, match="is a cross-encoder; expected a model that"):
        search("--model", model, "--data", beir, "sum")


def test_an_encoding_of_another_model_is_refused(beir, model, tmp_path):
    other = tiny.save_dual_encoder(tmp_path / "other", seed=9)
    scorer, documents = load_embedder(other), read_data(beir, "test").documents
    encoded.encode_collection(scorer, documents, tmp_path / "encoding")
    with pytest.raises(InputError, match="encoded with model"):
        search("--model", model, "--data", beir, "--encoding", tmp_path / "encoding", "sum")


def test_a_collection_without_queries_or_judgments_can_be_searched(model, tmp_path, capsys):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "sum of a vector"}\n{"_id": "b", "text": "sort"}\n')
    search("--model", model, "--data", folder, "--dtype", "float32", "vector")
    assert "2 documents searched" in capsys.readouterr().out
