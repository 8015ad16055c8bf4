"""A file that was cut short, or with a flipped bit, is noticed: a cache is made again, a model is refused."""

import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.publishing.build import load as load_published
from m3se.trainers.callbacks import SummedCheckpoints
from m3se.trainers.data import BM25Index, RankingLists, read_data
from m3se.trainers.errors import InputError
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.encode_collection import encode_collection
from m3se.trainers.retrieval.faiss_index import open_index
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.run_folder import last_checkpoint, save_model
from m3se.trainers.storage.checksums import SUMS, find_damage, write_sums
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.worlds import tiny
from tests.worlds.small_world import write_collection


def flip(path):
    """One bit in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def empty(path):
    path.write_bytes(b"")


HARMS = [flip, cut, empty]


def random_scorer():
    """Embeds a text in its length and three numbers that depend on it."""

    def encode(texts, side, bar=None):
        return np.array([[len(text), *np.cos(len(text) * np.arange(1, 4))] for text in texts], dtype=np.float32)

    return DenseScorer(encode, "the fingerprint", torch.device("cpu"))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("words") / "words", documents=30)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("part", ["documents-*/table.arrow", "documents-*/order.npy", "bm25-*/data.csc.index.npy"])
def test_a_damaged_cache_is_put_aside_and_made_again(words, tmp_path, caplog, harm, part):
    def search():
        collection = read_data(str(words), "test", tmp_path)
        return BM25Index.build(collection.documents, cache_dir=tmp_path).search(list(collection.queries.values()), 5)

    expected = search()
    (harmed,) = tmp_path.glob(part)
    harm(harmed)
    assert search() == expected
    assert f"{harmed.parent}: {harmed.name} is not what was written" in caplog.text
    assert harmed.parent.with_name(f"{harmed.parent.name}.damaged").is_dir()
    caplog.clear()
    assert search() == expected and "is not what was written" not in caplog.text


@pytest.mark.parametrize("harm", HARMS)
def test_the_lists_that_a_source_brings_are_collected_again(words, tmp_path, harm):
    triples = "".join(f"{query} {document} d{i}\n" for i, (query, document) in enumerate(judged(words)))
    (tmp_path / "triples.tsv").write_text(triples, encoding="utf-8")

    def read():
        return read_data(str(words), "train", tmp_path / "cache", candidates=tmp_path / "triples.tsv").candidates[:]

    expected = read()
    (harmed,) = (tmp_path / "cache").glob("lists-*/candidates.arrow")
    harm(harmed)
    assert read() == expected


def judged(words):
    lines = (words / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t")[:2] for line in lines]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("suffix", [".npy", ".scale.npy", ".ids.arrow"])
def test_a_damaged_shard_of_embeddings_is_refused_and_encoded_again(lists, tmp_path, caplog, harm, suffix):
    options = {"number_format": "int8", "shard_size": 16}
    encode_collection(random_scorer(), lists.documents, tmp_path / "shards", **options)
    rows = np.arange(len(lists.documents))
    expected = EmbeddedCollection(tmp_path / "shards").embeddings(rows)
    harmed = tmp_path / "shards" / f"shard-00001{suffix}"
    whole = harmed.read_bytes()
    harm(harmed)
    with pytest.raises(InputError, match=f"{harmed.name} is not what was written"):
        EmbeddedCollection(tmp_path / "shards")
    encode_collection(random_scorer(), lists.documents, tmp_path / "shards", **options)
    assert f"{harmed.name} is not what was written: its checksum is another; encoded again" in caplog.text
    assert harmed.read_bytes() == whole
    np.testing.assert_array_equal(EmbeddedCollection(tmp_path / "shards").embeddings(rows), expected)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("part", ["rows.arrow", "data_report.json", "documents/table.arrow", "documents/hashes.npy"])
def test_damaged_lists_are_refused(lists, tmp_path, harm, part):
    lists.save(tmp_path / "lists")
    harm(tmp_path / "lists" / part)
    with pytest.raises(InputError, match=f"lists: {part} is not what was written.*make these lists again"):
        RankingLists.load(tmp_path / "lists")


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_checksums_vouch_for_nothing(lists, tmp_path, harm):
    lists.save(tmp_path / "lists")
    harm(tmp_path / "lists" / SUMS)
    with pytest.raises(InputError, match="is not what was written|is missing|is empty|cannot be read"):
        RankingLists.load(tmp_path / "lists")


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_search_index_is_named_and_built_again(lists, tmp_path, caplog, harm):
    pytest.importorskip("faiss")
    encode_collection(random_scorer(), lists.documents, tmp_path)
    encoded, queries = EmbeddedCollection(tmp_path), np.eye(4, dtype=np.float32)
    _, expected = open_index(encoded, "HNSW8").search(queries, 5)
    (harmed,) = tmp_path.glob("index-*.faiss")
    whole = harmed.read_bytes()
    harm(harmed)
    _, found = open_index(encoded, "HNSW8").search(queries, 5)
    assert f"{harmed.name} is not what was written" in caplog.text and "built again" in caplog.text
    np.testing.assert_array_equal(found, expected)
    assert harmed.read_bytes() == whole


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("part", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_is_refused_by_every_loader(dual_encoder, tmp_path, harm, part):
    folder = tmp_path / "model"
    dual_encoder.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    write_sums(folder)
    for load in (load_scorer, encoder_path):
        load(str(folder))
    harm(folder / part)
    for load in (load_scorer, encoder_path, PairScorer.from_pretrained, load_published):
        with pytest.raises(InputError, match=f"{part} is not what was written"):
            load(folder if load is load_published else str(folder))


@pytest.mark.linux
def test_a_trained_model_and_a_published_one_have_sums_that_sha256sum_accepts(dual_encoder, lists, tmp_path):
    trainer = tiny.make_trainer(dual_encoder, lists, tmp_path / "trained")
    save_model(trainer, tmp_path / "trained")
    published = build_folder(tmp_path / "trained", tmp_path / "published")
    (published / "README.md").write_text("my own words", encoding="utf-8")  # a card may be edited
    for folder in (tmp_path / "trained", published):
        assert find_damage(folder) is None
        done = subprocess.run(["sha256sum", "--check", SUMS], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0 and "model.safetensors: OK" in done.stdout
    flip(published / "model.safetensors")
    with pytest.raises(InputError, match="model.safetensors is not what was written"):
        load_scorer(str(published))


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_training_goes_on_from_the_last_checkpoint_that_is_whole(lists, tmp_path, caplog, harm, part):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}
    trainer = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path / "run", **options)
    trainer.add_callback(SummedCheckpoints())
    trainer.train()
    assert last_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-4")
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    harm(tmp_path / "run" / "checkpoint-3" / part)
    found = last_checkpoint(tmp_path / "run")
    assert found == str(tmp_path / "run" / "checkpoint-2") and "checkpoint-3" in caplog.text
    resumed = tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path / "run", **options)
    resumed.train(resume_from_checkpoint=found)
    assert torch.equal(tiny.flat_weights(resumed.model), tiny.flat_weights(trainer.model))


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_encoding_killed_at_its_first_file_goes_on_and_removes_what_was_left(lists, tmp_path, gone):
    start = f".{socket.gethostname()}."
    left = [f"{start}{gone}.encoding.json", f"{start}{gone}.shard-00000.npy", f"{start}{os.getppid()}.encoding.json"]
    for name in left:
        (tmp_path / name).write_text("{", encoding="utf-8")
    encode_collection(random_scorer(), lists.documents, tmp_path)
    assert len(EmbeddedCollection(tmp_path)) == len(lists.documents)
    assert [(tmp_path / name).exists() for name in left] == [False, False, True]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(lists, tmp_path, gone):
    left = [tmp_path / f".lists.{socket.gethostname()}.{process}" for process in (gone, os.getppid())]
    for folder in left:
        (folder / "documents").mkdir(parents=True)
    lists.save(tmp_path / "lists")
    assert [folder.exists() for folder in left] == [False, True]
