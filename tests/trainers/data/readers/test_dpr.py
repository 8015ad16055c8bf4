import gzip
import json
import time

import pytest

from m3se.trainers.data import OwnCandidates, candidate_lists, read_data, training_lists
from m3se.trainers.errors import InputError


def passage(name, **more):
    return {"title": f"Title {name}", "text": f"text {name}", "passage_id": name, "score": 1.0} | more


QUESTIONS = [
    {
        "question": "who was first",
        "answers": ["x"],
        "positive_ctxs": [passage("1")],
        "hard_negative_ctxs": [passage("2"), passage("3")],
        "negative_ctxs": [passage("4")],
    },
    {"question": "no one knows", "positive_ctxs": [], "hard_negative_ctxs": [passage("1")], "negative_ctxs": []},
    {"question": "who was first", "positive_ctxs": [passage("2")], "negative_ctxs": [passage("1")]},
]


@pytest.fixture(params=["array", "lines", "gz"])
def file(tmp_path, request):
    text = json.dumps(QUESTIONS, indent=2)
    if request.param == "lines":
        text = "\n".join(map(json.dumps, QUESTIONS))
    path = tmp_path / ("nq.json.gz" if request.param == "gz" else "nq.json")
    path.write_bytes(gzip.compress(text.encode()) if request.param == "gz" else text.encode())
    return path


def test_questions_keep_positives_hard_negatives_and_others_in_this_order(file, cache):
    collection = read_data(str(file), "train", cache)
    assert collection.queries == {"0": "who was first", "2": "who was first"}
    assert collection.qrels == {"0": {"1": 1.0}, "2": {"2": 1.0}}
    assert collection.documents.texts(["3"]) == ["Title 3 text 3"]
    pool = candidate_lists(collection, OwnCandidates(collection), 200).rows[0]
    assert pool["document_ids"] == ["1", "2", "3", "4"] and pool["labels"] == [1, 0, 0, 0]
    assert collection.report["queries_dropped_without_judgment"] == 1


def test_other_judgments_are_refused_because_its_questions_have_no_ids(file, cache, write):
    with pytest.raises(InputError, match="--qrels: .*nq.json.* brings its own judgments"):
        read_data(str(file), "train", cache, qrels=write("qrels.txt", "0 0 3 1\n"))


def test_hard_negatives_come_before_others_in_training_lists(file, cache):
    collection = read_data(str(file), "train", cache)
    lists = training_lists(collection, OwnCandidates(collection), 3, depth=9, negatives="top")
    assert lists.rows[0]["document_ids"] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([{"query": "?"}], "expected an object with a question, got"),
        ([{"question": "?", "positive_ctxs": [{"title": "no text"}]}], "expected a passage with a text"),
        ([{"question": "?", "positive_ctxs": []}], "no documents"),
        ([QUESTIONS[1]], "no document is judged relevant"),
        (
            [QUESTIONS[0], {"question": "?", "positive_ctxs": [passage("1", text="other")]}],
            "document '1' is 'Title 1 t",
        ),
    ],
)
def test_what_is_no_dpr_is_an_input_error(write, cache, questions, message):
    with pytest.raises(InputError, match=message):
        read_data(str(write("nq.json", json.dumps(questions))), "train", cache)


def test_a_file_that_changed_is_read_again(write, cache):
    for text in ("red", "big"):  # of the same size
        question = {"question": "why", "positive_ctxs": [passage("1", text=text)], "negative_ctxs": [passage("2")]}
        collection = read_data(str(write("dpr.json", json.dumps([question]))), "train", cache)
        assert text in collection.documents.texts(["1"])[0]
        time.sleep(0.02)


def test_passages_without_an_id_are_called_by_their_text(write, cache):
    contexts = [passage("1", passage_id=None), passage("1", passage_id=""), passage("2", passage_id=None)]
    question = {"question": "?", "positive_ctxs": contexts[:1], "negative_ctxs": contexts[1:]}
    collection = read_data(str(write("nq.json", json.dumps([question]))), "train", cache)
    assert len(collection.documents) == 2
