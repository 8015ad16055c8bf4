import time

import pytest

from m3se.trainers.data import OwnCandidates, candidate_lists, read_data
from m3se.trainers.errors import InputError


ir_datasets = pytest.importorskip("ir_datasets")


@pytest.fixture
def registered(write):
    """Registers a small data set of local files under an id of its own; gives the id."""
    name = "m3se-test"
    files = {
        "docs_tsv": str(write("docs.tsv", "1\tthe man\n2\tthe sea\n")),
        "queries_tsv": str(write("queries.tsv", "7\twho is it\n")),
        "qrels_trec": str(write("qrels.txt", "7 0 2 2\n7 0 1 0\n")),
    }
    run = str(write("run.txt", "7 Q0 1 1 5.0 x\n7 Q0 2 2 4.0 x\n"))
    plain = ir_datasets.create_dataset(**files)
    ranking = ir_datasets.formats.TrecScoredDocs(ir_datasets.util.LocalDownload(run))
    ranked = ir_datasets.datasets.base.Dataset(ranking, plain)
    for part, dataset in (("test", plain), ("ranked", ranked)):
        dataset.dataset_id = lambda part=part: f"{name}/{part}"
        ir_datasets.registry._registered.pop(f"{name}/{part}", None)
        ir_datasets.registry.register(f"{name}/{part}", dataset)
    return name


def test_a_data_set_is_found_by_id_and_split(registered, cache):
    for source in (registered, f"{registered}/test"):
        collection = read_data(f"ir_datasets:{source}", "test", cache)
        assert collection.queries == {"7": "who is it"} and collection.qrels == {"7": {"2": 2.0, "1": 0.0}}
        assert collection.documents.texts(["2", "1"]) == ["the sea", "the man"] and collection.candidates is None


def test_a_file_of_judgments_is_taken_instead_of_its_own(registered, cache, write):
    collection = read_data(f"ir_datasets:{registered}", "test", cache, qrels=write("own.txt", "7 0 1 1\n"))
    assert collection.qrels == {"7": {"1": 1.0}}


def test_scored_documents_become_candidates(registered, cache):
    collection = read_data(f"ir_datasets:{registered}/ranked", "test", cache)
    row = candidate_lists(collection, OwnCandidates(collection), 10).rows[0]
    assert row["document_ids"] == ["1", "2"] and row["labels"] == [0, 2]


def test_scored_documents_of_a_query_that_do_not_stand_together_are_refused(registered, cache, write):
    write("queries.tsv", "7\twho is it\n8\twhat is it\n")
    write("run.txt", "7 Q0 1 1 5.0 x\n8 Q0 1 1 4.0 x\n7 Q0 2 2 6.0 x\n")
    with pytest.raises(
        InputError, match="the scored documents of query '7' do not stand together; write them to a run"
    ):
        read_data(f"ir_datasets:{registered}/ranked", "test", cache)


def test_a_file_that_changed_is_read_again(registered, cache, write):
    for text in ("the sea", "the bay"):  # of the same size
        write("docs.tsv", f"1\tthe man\n2\t{text}\n")
        assert read_data(f"ir_datasets:{registered}", "test", cache).documents.texts(["2"]) == [text]
        time.sleep(0.02)
    for order in ("12", "21"):
        first, second = order
        write("run.txt", f"7 Q0 {first} 1 5.0 x\n7 Q0 {second} 2 4.0 x\n")
        candidates = read_data(f"ir_datasets:{registered}/ranked", "test", cache).candidates
        assert candidates[0]["document_ids"] == [first, second]
        time.sleep(0.02)


def test_files_that_cannot_be_fetched_are_an_input_error(registered, cache, monkeypatch):
    def fail():
        raise ConnectionError("no network")

    monkeypatch.setattr(ir_datasets.load(f"{registered}/test"), "docs_path", fail, raising=False)
    with pytest.raises(InputError, match="ir_datasets:m3se-test/test: no docs: no network"):
        read_data(f"ir_datasets:{registered}", "test", cache)


def test_an_unknown_id_is_an_input_error(cache):
    with pytest.raises(InputError, match="ir_datasets knows neither no-such/train nor no-such"):
        read_data("ir_datasets:no-such", "train", cache)
