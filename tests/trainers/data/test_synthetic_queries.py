import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import T5Config, T5ForConditionalGeneration

from m3se.trainers.data import BM25Index, read_data, training_lists
from m3se.trainers.data.doc2query import QueryWriter
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.readers.read_data import has_queries, read_titles, read_without_queries
from m3se.trainers.data.schema import Collection
from m3se.trainers.data.synthetic_queries import (
    add_queries,
    make_queries,
    plain_text,
    sentence_maker,
    split_title,
    take_queries_out,
    take_sentence,
    title_maker,
)
from m3se.trainers.errors import InputError
from tests.worlds import tiny


TEXTS = {
    "a": "Tall animals\nGiraffes are the tallest animals. They eat leaves.",
    "b": "# Birds\nOstriches lay the largest eggs.",
    "c": "one line, no title",
    "d": "Tall  ANIMALS\nElephants are heavy.",
    "e": "Empty\n  ",
}


@pytest.fixture
def documents():
    return DocumentTable.from_texts(list(TEXTS), list(TEXTS.values()))


@pytest.mark.parametrize(
    ("text", "title", "made"),
    [
        ("Cats purr", "Cats", ("Cats", "purr")),
        ("## Cats\npurr\nloudly", "", ("Cats", "purr\nloudly")),
        ("Cats purr", "", None),
        ("Cats", "Cats", None),  # nothing is left
        ("x" * 201 + "\nrest", "", None),  # no title, but text
    ],
)
def test_a_title_asks_for_the_rest(text, title, made):
    assert split_title(text, title) == made


def test_a_sentence_asks_for_its_passage_without_it():
    text = "Giraffes are the tallest animals. Yes. Ostriches lay the largest eggs!"
    drawn = {take_sentence(text, np.random.default_rng(seed)) for seed in range(20)}
    assert drawn == {
        ("Giraffes are the tallest animals.", "Yes. Ostriches lay the largest eggs!"),
        ("Ostriches lay the largest eggs!", "Giraffes are the tallest animals. Yes."),
    }
    for text in (
        "One sentence that is alone here.",
        "Short. Too. Small.",
        "The very same words. The very same words.",
    ):
        assert take_sentence(text, np.random.default_rng(0)) is None
    chinese = "长颈鹿是世界上最高的动物它们吃树叶。鸵鸟是现存体型最大的鸟类它们不会飞。"
    assert take_sentence(chinese, np.random.default_rng(0))[0] in chinese


def test_queries_that_repeat_are_avoided_or_empty_are_dropped_and_counted(documents):
    made = make_queries(documents, title_maker({}), "title", avoid=["birds"])
    (query,) = made.queries
    assert query in ("synthetic-title:a", "synthetic-title:d")  # whichever is drawn first
    assert made.report == {
        "synthetic_queries": 1,
        "synthetic_method": "title",
        "synthetic_seed": 0,
        "synthetic_queries_dropped_without_text": 2,
        "synthetic_queries_dropped_with_repeated_text": 2,
    }

    def copy(ids, texts):
        return [*[(text.upper(), None) for text in texts[:4]], ("q", None)]

    copies = make_queries(documents, copy, "m")
    assert list(copies.queries.values()) == ["q"]
    assert copies.report["synthetic_queries_dropped_equal_to_their_document"] == 4
    with pytest.raises(InputError, match="by m: none could be made of 5 documents"):
        make_queries(documents, lambda ids, texts: [None] * len(ids), "m")
    with pytest.raises(InputError, match="expected a count of 1 or more, got 0"):
        make_queries(documents, title_maker({}), "title", count=0)


WORDS = st.lists(st.sampled_from(["giraffes are very tall", "cats purr", "birds lay large eggs", ""]), max_size=5)


@given(st.lists(WORDS.map(". ".join), min_size=1, max_size=6), st.integers(1, 6), st.integers(0, 5))
def test_queries_are_a_function_of_the_seed_and_never_their_document(texts, count, seed):
    table = DocumentTable.from_texts([f"d{place}" for place in range(len(texts))], texts)
    try:
        made = make_queries(table, sentence_maker(seed), "sentence", count, seed)
    except InputError:
        return
    again = make_queries(table, sentence_maker(seed), "sentence", count, seed)
    assert (made.queries, made.rests) == (again.queries, again.rests) and len(made.queries) <= count
    for query, text in made.queries.items():
        whole = table.texts([made.sources[query]])[0]
        assert text.strip() and plain_text(text) != plain_text(whole)
        assert text in whole and text not in made.rests[query] and len(made.rests[query]) < len(whole)


def test_lists_show_the_source_without_its_query_and_never_as_a_negative(documents):
    made = make_queries(documents, title_maker({}), "title")
    collection = add_queries(Collection("five", documents, {"q": "tallest animals"}, {"q": {"a": 1.0}}), made)
    index = BM25Index.build(documents, stemmer=None)
    lists = training_lists(collection, index, 2, depth=5, unlabelled=True)
    rows = {row["query_id"]: row for row in take_queries_out(lists, made).rows}
    shown = take_queries_out(lists, made)
    (name,) = [name for name in rows if name in ("synthetic-title:a", "synthetic-title:d")]
    source = made.sources[name]
    first, second = rows[name]["document_ids"]
    assert shown.documents.texts([first]) == [TEXTS[source].partition("\n")[2]] and second != source
    assert rows[name]["labels"] == [1, 0] and rows[name]["positive_ids"] == [source]
    assert rows["q"] == next(row | {"positive_ids": []} for row in lists.rows if row["query_id"] == "q")
    assert shown.documents.texts(["a"]) == [TEXTS["a"]]
    assert lists.report["collection"]["synthetic_method"] == "title"


def test_a_folder_of_documents_alone_has_titles_and_no_queries(tmp_path, cache, write):
    corpus = [{"_id": "1", "title": " Cats ", "text": "purr"}, {"_id": "2", "text": "bark"}]
    write("docs/corpus.jsonl", "".join(json.dumps(line) + "\n" for line in corpus))
    folder = str(tmp_path / "docs")
    assert not has_queries(folder, "train") and read_titles(folder, "train") == {"1": "Cats"}
    collection = read_without_queries(folder, "train", cache)
    assert len(collection.documents) == 2 and collection.queries == {} and collection.report["documents"] == 2
    made = make_queries(collection.documents, title_maker(read_titles(folder, "train")), "title")
    assert list(made.queries.values()) == ["Cats"] and list(made.rests.values()) == ["purr"]


def test_the_queries_of_other_splits_are_known_to_be_avoided(tmp_path, cache, write):
    write("beir/corpus.jsonl", '{"_id": "1", "text": "cats"}\n')
    write("beir/queries.jsonl", '{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n')
    for split, query in (("train", "q1"), ("test", "q2")):
        write(f"beir/qrels/{split}.tsv", f"{query}\t1\t1\n")
    assert read_data(str(tmp_path / "beir"), "train", cache).other_queries == {"q2": "two"}


@pytest.fixture(scope="module")
def writer_folder(tmp_path_factory):
    """An untrained T5 that writes the words of the tiny world."""
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = tiny.tokenizer()
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    special = {"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0}
    T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes, **special)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_model_writes_queries_by_its_seed_and_goes_on_where_it_stopped(writer_folder, tmp_path, monkeypatch):
    texts = [f"{first} {second}" for first in tiny.WORDS[:4] for second in tiny.WORDS[4:]]
    table = DocumentTable.from_texts([f"d{place}" for place in range(len(texts))], texts)
    made = make_queries(table, QueryWriter(writer_folder, 0, tmp_path), "model", count=5, seed=0)
    assert len(made.queries) == 5 and made.rests == {} and all(made.queries.values())
    other = make_queries(table, QueryWriter(writer_folder, 1, tmp_path), "model", count=5, seed=0)
    assert other.queries != made.queries
    fresh = make_queries(table, QueryWriter(writer_folder, 0, tmp_path / "fresh"), "model", count=5, seed=0)
    assert fresh.queries == made.queries
    writer = QueryWriter(writer_folder, 0, tmp_path)
    monkeypatch.setattr(writer, "write", None)  # everything is in the cache
    assert make_queries(table, writer, "model", count=5, seed=0).queries == made.queries


def test_a_model_that_cannot_write_is_refused(tmp_path):
    tiny.save_classifier(tmp_path / "bert")
    for name in (str(tmp_path / "bert"), str(tmp_path / "nothing")):
        with pytest.raises(InputError, match="--synthetic_queries: expected title, sentence, or a model that writes"):
            QueryWriter(name, 0, tmp_path)
