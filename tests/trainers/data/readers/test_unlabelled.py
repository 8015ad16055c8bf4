"""Queries that nobody has judged: which are read, and that no query of a test is among them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.data import BM25Index, read_data, teacher_lists, training_lists
from m3se.trainers.errors import InputError
from tests.worlds.small_world import write_lines


QUERIES = {
    "t1": "who purrs",
    "t2": "who barks",
    "d1": "who swims",
    "log1": "cats",
    "log2": "  WHO   swims ",
    "log3": "",
}
JUDGMENTS = {"train": [("t1", "1"), ("t2", "2")], "test": [("d1", "3")]}


def write_beir(folder, queries, judgments):
    """Three documents, the given queries, and (query, document) pairs that are relevant by split."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"1": "cats who purr", "2": "dogs who bark", "3": "fish who swim"}
    write_lines(folder / "corpus.jsonl", [{"_id": name, "text": text} for name, text in texts.items()])
    write_lines(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in queries.items()])
    for split, pairs in judgments.items():
        (folder / "qrels").mkdir(exist_ok=True)
        lines = [f"{query}\t{document}\t1\n" for query, document in pairs]
        (folder / "qrels" / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
    return str(folder)


def test_queries_that_no_split_judges_are_read_beside_the_judged_ones(tmp_path, cache, caplog):
    caplog.set_level("INFO")
    folder = write_beir(tmp_path / "beir", QUERIES | {"log4": "cats"}, JUDGMENTS)
    assert list(read_data(folder, "train", cache).queries) == ["t1", "t2"]
    collection = read_data(folder, "train", cache, unlabelled=True)
    assert collection.queries == {"t1": "who purrs", "t2": "who barks", "log1": "cats"}
    assert collection.qrels == {"t1": {"1": 1.0}, "t2": {"2": 1.0}}
    assert collection.report["queries_without_judgment"] == 1
    assert collection.report["unlabelled_queries_dropped_with_repeated_text"] == 2  # of a test's query, of another
    assert collection.report["unlabelled_queries_dropped_without_text"] == 1
    assert "3 queries, 2 of them with judgments, 3 documents, 2 judgments, 1.00 positives per query" in caplog.text


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["train", "dev", "test", None]), min_size=1, max_size=8), st.integers(0, 2))
def test_no_query_of_another_split_is_trained_on(tmp_path_factory, splits, equal_texts):
    folder = tmp_path_factory.mktemp("beir")
    texts = [f"text {number % (8 - 3 * equal_texts)}" for number in range(len(splits))]
    queries = {f"q{number}": text for number, text in enumerate(texts)}
    judgments = {split: [] for split in splits if split}
    for query, split in zip(queries, splits, strict=True):
        if split:
            judgments[split].append((query, "1"))
    if not set(splits) & {"train", None}:
        return
    try:
        read = read_data(write_beir(folder, queries, judgments), "train", folder / "cache", unlabelled=True)
    except InputError as error:
        assert "no document is judged relevant" in str(error)  # every unlabelled text repeats a judged one
        return
    elsewhere = {query for query, split in zip(queries, splits, strict=True) if split in ("dev", "test")}
    assert not read.queries.keys() & elsewhere
    unlabelled = read.queries.keys() - read.qrels.keys()
    assert not {queries[query] for query in unlabelled} & {queries[query] for query in elsewhere}


def test_a_folder_without_any_judgment_is_read_where_labels_are_not_needed(tmp_path, cache):
    folder = write_beir(tmp_path / "log", QUERIES, {})
    with pytest.raises(InputError, match="no split 'train'; qrels/ has none"):
        read_data(folder, "train", cache)
    for unlabelled in (None, True):
        collection = read_data(folder, "train", cache, unlabelled=unlabelled)
        assert list(collection.queries) == ["t1", "t2", "d1", "log1"] and collection.qrels == {}


def test_a_train_split_may_be_missing_but_no_other(tmp_path, cache):
    folder = write_beir(tmp_path / "beir", QUERIES, {"test": [("d1", "3")]})
    assert list(read_data(folder, "train", cache, unlabelled=True).queries) == ["t1", "t2", "log1"]
    with pytest.raises(InputError, match="no split 'trian'; qrels/ has test"):
        read_data(folder, "trian", cache, unlabelled=True)
    with pytest.raises(InputError, match="no split 'train'; qrels/ has test"):
        read_data(folder, "train", cache, unlabelled=None)  # something is judged


def test_msmarco_and_hub_layouts_know_unlabelled_queries_too(tmp_path, cache, write):
    write("ms/collection.tsv", "1\tcats\n2\tdogs\n")
    write("ms/queries.train.tsv", "7\twho purrs\n8\twho barks\n9\twho\n")
    write("ms/qrels.train.tsv", "7\t0\t1\t1\n")
    write("ms/qrels.dev.tsv", "8\t0\t2\t1\n")
    assert list(read_data(str(tmp_path / "ms"), "train", cache, unlabelled=True).queries) == ["7", "9"]
    rows = {
        "corpus/c": [{"_id": "1", "text": "cats"}],
        "queries/q": [{"_id": str(n), "text": f"t{n}"} for n in range(4)],
    }
    rows |= {
        f"qrels/{split}": [{"query-id": str(n), "corpus-id": "1", "score": 1}]
        for n, split in ((0, "train"), (1, "test"))
    }
    for name, lines in rows.items():
        write(f"hub/{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    files = {"corpus": {"corpus": "corpus/c"}, "queries": {"queries": "queries/q"}}
    files |= {"qrels": {"train": "qrels/train", "test": "qrels/test"}}
    card = "---\nconfigs:\n"
    for name, splits in files.items():
        card += f"- config_name: {name}\n  data_files:\n"
        card += "".join(f"  - split: {split}\n    path: {path}.jsonl\n" for split, path in splits.items())
    write("hub/README.md", card + "---\n")
    assert list(read_data(str(tmp_path / "hub"), "train", cache, unlabelled=True).queries) == ["0", "2", "3"]


def test_lists_are_made_of_labelled_and_unlabelled_queries(tmp_path, cache):
    collection = read_data(write_beir(tmp_path / "beir", QUERIES, JUDGMENTS), "train", cache, unlabelled=True)
    collection.queries["log1"] = "cats and dogs who bark"
    index = BM25Index.build(collection.documents, stemmer=None)
    lists = training_lists(collection, index, 2, depth=3, negatives="top", unlabelled=True)
    rows = {row["query_id"]: (row["document_ids"], row["labels"]) for row in lists.rows}
    assert rows == {"t1": (["1", "2"], [1, 0]), "t2": (["2", "1"], [1, 0]), "log1": (["2", "1"], [0, 0])}
    assert lists.report["lists"]["lists_without_positive"] == 1
    labelled = training_lists(collection, index, 2, depth=3, negatives="top")
    assert labelled.rows.to_list() == lists.rows.to_list()[:2]
    assert labelled.report["lists"]["queries_dropped_without_positive"] == 1
    with pytest.raises(InputError, match="at most depth = 3 .all are candidates where .* no positive., got 4"):
        training_lists(collection, index, 4, depth=3, unlabelled=True)


def test_brought_scores_of_unlabelled_queries_make_lists_of_label_0(tmp_path, cache, write):
    scores = write("scores.tsv", "9\t1\tt1\t1\t2\n8\t2\tlog1\t3\t2\n")
    folder = write_beir(tmp_path / "beir", QUERIES, JUDGMENTS)
    collection = read_data(folder, "train", cache, candidates=scores, unlabelled=True)
    del collection.qrels["log1"]  # the file calls document 3 its positive
    assert teacher_lists(collection, 2).rows["query_id"][:] == ["t1"]
    lists = teacher_lists(collection, 2, unlabelled=True)
    assert lists.rows["labels"][:] == [[1, 0], [0, 0]] and lists.rows["document_ids"][1] == ["3", "2"]
