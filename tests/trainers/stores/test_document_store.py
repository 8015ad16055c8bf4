"""Stores in files and behind an address: the same calls, and the vectors, ids and texts that were put there."""

import os
import subprocess
import sys

import numpy as np
import pytest

from m3se.trainers.errors import InputError
from m3se.trainers.stores.connection import check_store, connect
from m3se.trainers.stores.document_store import create_store, cut_text, open_store


# gRPC's threads stay in the process; other tests of it start programs.
pytestmark = pytest.mark.long

ADDRESS = "M3SE_TEST_STORE"
WIDTH = 8
# Ids with all that a database's language gives a meaning to.
IDS = ["it's", 'a "b"', "back\\slash", "line\nbreak", "é", "%", *map(str, range(294))]
TEXTS = [f"text of {name}" for name in IDS]
VECTORS = np.random.default_rng(0).standard_normal((len(IDS), WIDTH)).astype(np.float32)
QUERIES = np.random.default_rng(1).standard_normal((20, WIDTH)).astype(np.float32)


def empty(address):
    """Remove what an earlier run has left on a server."""
    with connect(address) as client:
        for name in ("words", "few"):
            client.drop_collection(name)


def exact_order(query):
    return np.argsort(-(VECTORS @ query), kind="stable")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server of Milvus's protocol in a process of its own."""
    code = (
        "import sys; from milvus_lite.adapter.grpc.server import start_server_in_thread as start; "
        "server, database, port = start(sys.argv[1], port=0); print(port, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path_factory.mktemp("server") / "data.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


@pytest.fixture(scope="module", params=["file", "server", "milvus"])
def uri(request, server, tmp_path_factory):
    """A database with all documents, put there twice; the third one is a Milvus server that the tests do not start."""
    addresses = {"server": server, "file": str(tmp_path_factory.mktemp("store") / "documents.db")}
    uri = addresses.get(request.param, os.environ.get(ADDRESS))
    if uri is None:
        pytest.skip(f"{ADDRESS} names no Milvus server")
    if request.param == "milvus":
        empty(uri)
    with create_store(uri, "words", "model one", WIDTH) as store:
        store.put(IDS, TEXTS, VECTORS)
        store.put(IDS[:10], TEXTS[:10], VECTORS[:10])
        store.finish()
    return uri


def test_search_gives_the_highest_inner_products_with_their_ids_and_texts(uri):
    with open_store(uri, "words", "model one") as store:
        answers = list(store.search(QUERIES, 5, with_texts=True))
    assert len(answers) == len(QUERIES)
    for query, hits in zip(QUERIES, answers, strict=True):
        best = exact_order(query)[:5]
        assert [hit.id for hit in hits] == [IDS[row] for row in best]
        assert [hit.text for hit in hits] == [TEXTS[row] for row in best]
        np.testing.assert_allclose([hit.score for hit in hits], VECTORS[best] @ query, rtol=1e-5)


def test_a_document_that_is_put_twice_is_there_once(uri):
    with open_store(uri, "words") as store:
        assert len(store) == len(IDS)
        names = [hit.id for hit in next(store.search(QUERIES[:1], len(IDS)))]
    assert sorted(names) == sorted(IDS)


def test_a_condition_leaves_out_the_documents_that_do_not_meet_it(uri, capfd):
    with open_store(uri, "words") as store:
        hits = next(store.search(QUERIES[:1], 5, where='id like "12%"'))
        with pytest.raises(InputError, match="the database refuses"):
            list(store.search(QUERIES[:1], 5, where="id =="))
    assert "Traceback" not in capfd.readouterr().err
    expected = [IDS[row] for row in exact_order(QUERIES[0]) if IDS[row].startswith("12")]
    assert [hit.id for hit in hits] == expected[:5]


def test_missing_and_changed_documents_are_lacking(uri):
    with open_store(uri, "words") as store:
        assert store.lacking(IDS, TEXTS) == []
        assert store.lacking(["new", IDS[0], IDS[3]], ["text", "another text", TEXTS[3]]) == [0, 1]


def test_another_model_another_width_and_another_name_are_refused(uri):
    with pytest.raises(InputError, match="words was embedded by model model one, this model is two"):
        open_store(uri, "words", "two").__enter__()
    with pytest.raises(InputError, match="model one, this model is two"):
        create_store(uri, "words", "two", WIDTH).__enter__()
    with pytest.raises(InputError, match="has no documents called 'others'; index.py"):
        open_store(uri, "others").__enter__()
    with open_store(uri, "words") as store, pytest.raises(InputError, match="vectors have 8 numbers, the queries' 3"):
        next(store.search(QUERIES[:, :3], 5))


def test_a_changed_document_is_replaced_and_a_deleted_one_gone(uri):
    with create_store(uri, "few", "m", WIDTH) as store:
        store.put(["a", "b", "c"], ["x", "y", "z"], VECTORS[:3])
        store.put(["b"], ["new"], VECTORS[3:4])
        assert store.delete(["c", "d"]) == ["d"]
    with open_store(uri, "few", "m") as store:
        hits = {hit.id: hit for hit in next(store.search(QUERIES[:1], 10, with_texts=True))}
        assert len(store) == 2
    assert {name: hit.text for name, hit in hits.items()} == {"a": "x", "b": "new"}
    assert hits["b"].score == pytest.approx(VECTORS[3] @ QUERIES[0], rel=1e-5)


@pytest.mark.parametrize("index_type", ["IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ"])
def test_an_approximate_index_finds_most_of_the_exact_results(uri, index_type):
    is_given = uri == os.environ.get(ADDRESS)
    if is_given and index_type == "HNSW_SQ":
        pytest.skip("older servers do not have it")
    with create_store(uri, "words", "model one", WIDTH, index_type) as store:
        assert store.index_type == index_type
        found = list(store.search(QUERIES, 10, effort=64))
        # one of 256 cells, of about one document each; a server compares with every document of a small segment
        if index_type == "IVF_FLAT" and not is_given:
            assert len(next(store.search(QUERIES[:1], 10, effort=1))) < 10
    with create_store(uri, "words", "model one", WIDTH, "FLAT") as store, pytest.raises(InputError, match="--effort"):
        next(store.search(QUERIES, 10, effort=64))
    hits = 0
    for query, answer in zip(QUERIES, found, strict=True):
        hits += len({hit.id for hit in answer} & {IDS[row] for row in exact_order(query)[:10]})
    assert hits / 200 > 0.85


def test_what_is_no_database_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="expected a file NAME.db or an address"):
        check_store("documents")
    with pytest.raises(InputError, match="no such database"):
        open_store(str(tmp_path / "absent.db"), "words").__enter__()
    with pytest.raises(InputError, match="no connection .* is it running"):
        open_store("http://127.0.0.1:9", "words").__enter__()
    (tmp_path / "text.db").write_text("not a database")
    with pytest.raises(InputError, match="cannot be opened"):
        open_store(str(tmp_path / "text.db"), "words").__enter__()


def test_a_database_file_is_free_again_after_the_block(tmp_path):
    uri = str(tmp_path / "documents.db")
    with create_store(uri, "words", "m", WIDTH) as store:
        store.put(["a"], ["x"], VECTORS[:1])
        refused = subprocess.run([sys.executable, "-c", OPEN, uri], capture_output=True, text=True)
        assert "another process has it open" in refused.stderr
    counted = subprocess.run([sys.executable, "-c", OPEN, uri], capture_output=True, text=True)
    assert counted.stdout.strip() == "1", counted.stderr


OPEN = """
import sys
from m3se.trainers.stores.document_store import open_store
with open_store(sys.argv[1], "words", "m") as store:
    print(len(store))
"""


def test_a_text_is_cut_between_characters():
    assert cut_text("a" + "é" * 40_000) == "a" + "é" * 32_767
    assert cut_text("short") == "short"
