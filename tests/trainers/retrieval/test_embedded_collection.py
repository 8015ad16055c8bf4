import json

import numpy as np
import pytest

from m3se.trainers.data import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval import encode_collection as encoding
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import encode_collection
from m3se.trainers.retrieval.loading import load_embedder
from m3se.trainers.retrieval.scorers import DenseScorer


@pytest.fixture(scope="module")
def scorer(dual_encoder):
    return load_embedder(dual_encoder, "float32", device="cpu")


def everything(folder):
    encoded = EmbeddedCollection(folder)
    return np.concatenate([block for _, block in encoded.blocks(3)]), encoded.ids(range(len(encoded)))


@pytest.mark.parametrize("shard_size", [1, 3, 7, 100])
def test_the_embeddings_come_back_in_order_whatever_the_shards(scorer, collection, tmp_path, shard_size):
    encode_collection(scorer, collection.documents, tmp_path, shard_size=shard_size)
    embeddings, ids = everything(tmp_path)
    assert ids == list(collection.documents.ids)
    np.testing.assert_allclose(embeddings, scorer.encode(collection.documents.texts(ids), "document", None), atol=1e-6)
    rows = np.array([6, 0, 3, 3])
    np.testing.assert_array_equal(EmbeddedCollection(tmp_path).embeddings(rows), embeddings[rows])
    assert [first for first, _ in EmbeddedCollection(tmp_path).blocks(2)][:1] == [0]


def test_what_is_done_to_a_block_does_not_reach_the_file(scorer, collection, tmp_path):
    encode_collection(scorer, collection.documents, tmp_path, shard_size=3)
    before, _ = everything(tmp_path)
    for _, block in EmbeddedCollection(tmp_path).blocks(2):
        assert type(block) is np.ndarray and not block.flags.owndata  # not copied
        block[:] = 0
    np.testing.assert_array_equal(everything(tmp_path)[0], before)


def test_processes_write_the_same_files_as_one(scorer, collection, tmp_path):
    for process in (1, 0, 2):
        encode_collection(scorer, collection.documents, tmp_path / "three", "float32", 2, process, 3)
    encode_collection(scorer, collection.documents, tmp_path / "one", "float32", 2)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "three").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


@pytest.mark.parametrize("when", ["before", "after"])
def test_another_process_may_begin_the_same_folder_meanwhile(when, scorer, collection, tmp_path, monkeypatch):
    folder, list_files = tmp_path / "encoding", encoding.visible_files

    def files_while_another_process_begins(path):
        monkeypatch.setattr(encoding, "visible_files", list_files)
        files = list_files(path)
        encode_collection(scorer, collection.documents, path, "float32", 2, process=1, processes=2)
        return list_files(path) if when == "before" else files

    monkeypatch.setattr(encoding, "visible_files", files_while_another_process_begins)
    encode_collection(scorer, collection.documents, folder, "float32", 2, process=0, processes=2)
    assert everything(folder)[1] == list(collection.documents.ids)


def test_what_is_missing_is_said_and_only_that_is_encoded_again(scorer, collection, tmp_path):
    encode_collection(scorer, collection.documents, tmp_path, "float32", 2, process=0, processes=2)
    with pytest.raises(InputError, match="2 of 4 shards are missing"):
        EmbeddedCollection(tmp_path)
    seen = []

    def encode(texts, side, bar):
        seen.extend(texts)
        return scorer.encode(texts, side, bar)

    encode_collection(
        DenseScorer(encode, scorer.fingerprint, scorer.device), collection.documents, tmp_path, "float32", 2
    )
    assert seen == collection.documents.texts(["d3", "d4", "d7"])
    assert len(EmbeddedCollection(tmp_path)) == 7


def test_a_shard_that_was_being_written_does_not_count(scorer, collection, tmp_path):
    calls = []

    def encode(texts, side, bar):
        calls.append(texts)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return scorer.encode(texts, side, bar)

    with pytest.raises(KeyboardInterrupt):
        dying = DenseScorer(encode, scorer.fingerprint, scorer.device)
        encode_collection(dying, collection.documents, tmp_path, "int8", 2)
    assert len(list(tmp_path.glob("shard-?????.npy"))) == 2
    with pytest.raises(InputError, match="not complete"):
        EmbeddedCollection(tmp_path)
    encode_collection(scorer, collection.documents, tmp_path, "int8", 2)
    assert len(EmbeddedCollection(tmp_path)) == 7


def test_small_formats_are_close_to_float32(scorer, collection, tmp_path):
    for number_format in ("float32", "float16", "int8"):
        encode_collection(scorer, collection.documents, tmp_path / number_format, number_format, 4)
    exact, _ = everything(tmp_path / "float32")
    half, _ = everything(tmp_path / "float16")
    bytes_, _ = everything(tmp_path / "int8")
    np.testing.assert_allclose(half, exact, rtol=2**-10, atol=1e-4)
    # int8 rounds to half a step of 1/127 of the largest number of the row
    assert (np.abs(bytes_ - exact) <= np.abs(exact).max(axis=1, keepdims=True) / 127 * 0.5001).all()
    sizes = {name: (tmp_path / name / "shard-00000.npy").stat().st_size for name in ("float32", "float16", "int8")}
    assert sizes["float32"] - 128 == 2 * (sizes["float16"] - 128) == 4 * (sizes["int8"] - 128)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number_format": "float16"}, "format float32, not float16"),
        ({"shard_size": 3}, "shard_size 4, not 3"),
        ({"fingerprint": "other"}, "not other"),
    ],
)
def test_another_encoding_in_the_folder_is_refused(scorer, collection, tmp_path, change, message):
    encode_collection(scorer, collection.documents, tmp_path, "float32", 4)
    other = DenseScorer(scorer.encode, change.pop("fingerprint", scorer.fingerprint), scorer.device)
    with pytest.raises(InputError, match=message):
        encode_collection(other, collection.documents, tmp_path, **{"shard_size": 4, **change})


def test_refuses_what_cannot_be_encoded(scorer, collection, tmp_path):
    with pytest.raises(InputError, match="expected one of float32, float16, int8, got 'int4'"):
        encode_collection(scorer, collection.documents, tmp_path / "a", "int4")
    with pytest.raises(InputError, match="nothing to encode"):
        encode_collection(scorer, DocumentTable.from_texts([], []), tmp_path / "b")
    nan = DenseScorer(lambda texts, side, bar: np.full((len(texts), 2), np.nan, np.float32), "nan", "cpu")
    with pytest.raises(InputError, match="not finite"):
        encode_collection(nan, collection.documents, tmp_path / "c")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no encoding"):
        encode_collection(scorer, collection.documents, tmp_path)
    with pytest.raises(InputError, match="not an encoded collection"):
        EmbeddedCollection(tmp_path)


def test_an_encoding_knows_its_model_and_collection(scorer, collection, tmp_path):
    encode_collection(scorer, collection.documents, tmp_path)
    encoded = EmbeddedCollection(tmp_path)
    encoded.check(scorer.fingerprint, collection.documents.fingerprint)
    with pytest.raises(InputError, match="encoded with collection"):
        encoded.check(scorer.fingerprint, "another")
    assert json.loads((tmp_path / "encoding.json").read_text())["documents"] == 7
