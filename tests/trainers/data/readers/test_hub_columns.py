"""The columns of folders in the layout of Hub data sets: the names that are understood, and those that are not."""

import json
import time
from pathlib import Path

import pandas as pd
import pytest

from m3se.trainers.data import read_data
from m3se.trainers.data.readers.hub_columns import (
    DOCUMENT_ID,
    DOCUMENT_IDS,
    GRADE,
    NEGATIVE,
    POSITIVE,
    QUERY_TEXT,
    SCORES,
    TEXT,
)
from m3se.trainers.errors import InputError


pytestmark = pytest.mark.usefixtures("own_datasets_cache")


def write_folder(folder, rows):
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def read_texts(source, cache):
    """Read the texts of every query's documents, with their labels."""
    collection = read_data(source, "train", cache)
    texts = {}
    for row in collection.candidates:
        labels = collection.qrels[row["query_id"]]
        names = row["document_ids"]
        found = zip(names, collection.documents.texts(names), strict=True)
        texts[collection.queries[row["query_id"]]] = [(text, int(labels.get(name, 0))) for name, text in found]
    return texts


def write_table(folder, kind, rows):
    """Write `folder`/train.`kind` (jsonl, csv or parquet), and a README that names the file."""
    folder.mkdir(exist_ok=True)
    configuration = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train.{kind}"
    (folder / "README.md").write_text(f"---\n{configuration}\n---\n")
    frame, file = pd.DataFrame(rows), folder / f"train.{kind}"
    if kind == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    elif kind == "csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)
    return str(folder)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_folder_that_changed_is_read_again(tmp_path, cache, kind):
    for text in ("red tree", "big tree"):  # of the same size
        source = write_table(tmp_path / "data", kind, [{"query": "tree", "positive": text, "negative": "other"}])
        assert read_texts(source, cache) == {"tree": [(text, 1), ("other", 0)]}
        time.sleep(0.02)


@pytest.mark.parametrize(
    "columns",
    [
        {"positive": "so", "negatives": ["no", "not"]},
        {"positive_passages": ["so"], "negative_passages": ["no", "not"]},
        {"positive": "so", "negative": "no", "hard_negative_1": "not"},
        {"pos": ["so"], "neg": ["no", "not"], "pos_scores": [3.0], "neg_scores": [1.0, 0.5]},
        {"positives": ["so"], "negative_1": "no", "negative_2": "not"},
        {"positivePassages": [{"docId": "d1", "text": "so"}], "hardNegatives": ["no", "not"]},
    ],
)
def test_negatives_are_read_under_the_names_in_use(tmp_path, cache, columns):
    source = write_folder(tmp_path / "data", [{"query": "why", **columns}])
    assert read_texts(source, cache) == {"why": [("so", 1), ("no", 0), ("not", 0)]}
    if "pos_scores" in columns:
        assert read_data(source, "train", cache).candidates[0]["teacher_scores"] == [3.0, 1.0, 0.5]


def test_passages_keep_their_ids_and_titles(tmp_path, cache):
    row = {"query_id": "q7", "query": "why", "positive_passages": [{"docid": "d1", "title": "So", "text": "it is"}]}
    row["negative_passages"] = [{"docid": "d2", "title": "", "text": "no"}]
    collection = read_data(write_folder(tmp_path / "data", [row]), "train", cache)
    assert collection.qrels == {"q7": {"d1": 1.0}} and collection.documents.texts(["d1", "d2"]) == ["So it is", "no"]


@pytest.mark.parametrize("column", ["easy_negatives", "neg_pool", "positive_id"])
def test_a_column_of_lists_that_is_not_understood_is_named(tmp_path, cache, column):
    source = write_folder(tmp_path / "data", [{"query": "why", "positive": "so", column: "no"}])
    with pytest.raises(InputError, match=f"the column {column} is not understood; expected one of positive, "):
        read_data(source, "train", cache)


def test_a_table_of_commas_stays_text(tmp_path, cache):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("query,positive,negative\n007,null,NA\n12,1.50,True\n")
    assert read_texts(str(tmp_path / "data"), cache) == {
        "007": [("null", 1), ("NA", 0)],
        "12": [("1.50", 1), ("True", 0)],
    }


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (
            "query,positive\nwhy,so\n",
            "query,positive,negative\nwho,he,she\n",
            "expected the columns query, positive in",
        ),
        ("query,positive\nwhy,so,no\nwho,he,she\n", "query,positive\n", "the rows have more columns than the header"),
        (
            "query,positive,negatives\nwhy,so,\"['no', 'not']\"\n",
            "query,positive,negatives\n",
            "a list written as text",
        ),
    ],
)
def test_a_table_of_commas_that_would_lose_values_is_refused(tmp_path, cache, first, second, reason):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-1.csv").write_text(first)
    (tmp_path / "data" / "train-2.csv").write_text(second)
    with pytest.raises(InputError, match=reason) as error:
        read_data(str(tmp_path / "data"), "train", cache)
    assert "\n" not in str(error.value)


def test_columns_of_one_name_are_all_read(tmp_path, cache):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("query,positive,negative,negative\nwhy,so,no,not\n")
    assert read_texts(str(tmp_path / "data"), cache) == {"why": [("so", 1), ("no", 0), ("not", 0)]}


def test_the_page_names_every_column_that_is_read():
    page = (Path(__file__).parents[4] / "docs" / "data.md").read_text(encoding="utf-8")
    names = [*QUERY_TEXT, *TEXT, *DOCUMENT_ID, *DOCUMENT_IDS, *POSITIVE, *NEGATIVE, *GRADE, *SCORES]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_a_text_in_brackets_stays_text(tmp_path, cache):
    row = {"query": "why", "positive": "['so']", "negatives": ["['no']"]}
    source = write_table(tmp_path / "data", "jsonl", [row])
    assert read_texts(source, cache) == {"why": [("['so']", 1), ("['no']", 0)]}
