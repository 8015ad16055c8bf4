"""Peers that work in a process of their own, here with the packages of this environment."""

import gc
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from m3se.run_scripts.benchmarks import peer_environment
from m3se.run_scripts.benchmarks.inference import agreement
from m3se.run_scripts.benchmarks.peer_jobs import model_folder
from m3se.run_scripts.benchmarks.peer_process import PeerProcess
from m3se.trainers.errors import InputError
from tests.worlds.small_world import write_encoder


TEXTS = ["red tree", "blue green river stone cloud", "night", "salt iron glass"]
JOB = {"library": "sentence_transformers", "backend": "torch", "dtype": "float32", "pairs": False, "alone": False}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return JOB | {"model": str(write_encoder(tmp_path_factory.mktemp("world") / "encoder"))}


@pytest.mark.long
def test_a_peer_works_when_it_is_called_and_ends_with_its_object(job):
    peer = PeerProcess(sys.executable, job, TEXTS)
    (seconds,) = peer()
    assert (0 < seconds < 60, peer.setting) == (True, "batch size 8")
    expected = SentenceTransformer(job["model"], device="cpu").encode(TEXTS)
    np.testing.assert_allclose(peer.values(), expected, rtol=1e-5, atol=1e-6)
    assert peer.peak() > 0
    process = peer.process
    del peer
    gc.collect()
    assert process.poll() is not None


def test_the_peer_reads_as_many_tokens_of_a_text_as_we_do(job, tmp_path):
    encoder = SentenceTransformer(job["model"], device="cpu")
    encoder.max_seq_length = 3  # its authors' choice
    encoder.save(str(tmp_path / "encoder"))
    sizes = {"path": str(tmp_path / "encoder"), "data": "texts", "document_length": 5, "cache_dir": str(tmp_path)}
    workload = SimpleNamespace(**sizes, texts=lambda count: TEXTS)
    model = SentenceTransformer(str(model_folder(workload, JOB) / "model"), device="cpu")
    assert model.tokenize(["red tree blue green river stone cloud"])["input_ids"].shape == (1, 5)


@pytest.mark.long
def test_texts_alone_are_timed_one_by_one(job):
    peer = PeerProcess(sys.executable, job | {"alone": True}, TEXTS)
    assert len(peer()) == len(TEXTS)
    assert peer.values().shape[0] == len(TEXTS)


@pytest.mark.long
def test_a_peer_that_cannot_be_set_up_is_named(job, tmp_path):
    with pytest.raises(InputError, match="sentence_transformers, torch has ended with code 1"):
        PeerProcess(sys.executable, job | {"model": str(tmp_path / "none")}, TEXTS)


def test_what_pip_says_of_packages_that_it_cannot_install_is_passed_on(tmp_path, monkeypatch):
    monkeypatch.setitem(peer_environment.PACKAGES, "onnx", ("no name of a package",))
    with pytest.raises(InputError, match="--peers: pip cannot install torch==.*ERROR: .*no name of a package"):
        peer_environment.peer_python("onnx", tmp_path)
    assert not (tmp_path / "peer-onnx" / peer_environment.DONE).exists()


def test_agreement_is_a_cosine_of_embeddings_and_a_correlation_of_scores(monkeypatch):
    monkeypatch.setattr("m3se.run_scripts.benchmarks.inference.load_ours", lambda *_: None)
    exact = np.array([[3.0, 0.0], [0.0, 2.0]])
    turned = np.array([[3.0, 4.0], [0.0, 1.0]])  # by cosines of 3/5 and 1
    assert agreement(None, False, lambda _: exact, lambda: turned) == "cosine 0.8000"
    assert agreement(None, True, lambda _: np.array([1.0, 2.0, 4.0]), lambda: np.array([5.0, 7.0, 11.0])) == (
        "correlation 1.0000"
    )
