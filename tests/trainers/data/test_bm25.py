import logging
import math

import pytest

from m3se.trainers.data.bm25 import BM25Index, split_characters, word_matcher
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError


TEXTS = {
    "a": "cats chase cats",
    "b": "dogs chase mice across wide green fields",
    "c": "mice fear cats",
    "d": "rivers",
    "e": "mice fear dogs",
}


@pytest.fixture(scope="module")
def documents():
    return DocumentTable.from_texts(list(TEXTS), list(TEXTS.values()))


def by_hand(term_frequency, document_frequency, length, k1, b):
    """Lucene's BM25: no factor k1 + 1."""
    mean_length = (3 + 7 + 3 + 1 + 3) / 5
    idf = math.log(1 + (5 - document_frequency + 0.5) / (document_frequency + 0.5))
    return idf * term_frequency / (term_frequency + k1 * (1 - b + b * length / mean_length))


def test_scores_are_those_of_the_formula(documents):
    ids, scores = BM25Index.build(documents, k1=0.9, b=0.4).search(["cat chasing"], 5)
    cat_a, chase_a = by_hand(2, 2, 3, 0.9, 0.4), by_hand(1, 2, 3, 0.9, 0.4)
    expected = {"a": cat_a + chase_a, "c": by_hand(1, 2, 3, 0.9, 0.4), "b": by_hand(1, 2, 7, 0.9, 0.4)}
    assert ids == [["a", "c", "b"]]
    assert scores[0] == pytest.approx([expected[id_] for id_ in "acb"], rel=1e-5)


def test_documents_without_a_word_of_the_query_are_no_candidates(documents):
    assert BM25Index.build(documents).search(["river", "unicorn", "the of", ""], 5)[0] == [["d"], [], [], []]


def test_without_a_stemmer_words_are_taken_as_they_are(documents):
    index = BM25Index.build(documents, stemmer=None)
    assert index.search(["cat", "cats"], 5)[0] == [[], ["a", "c"]]


def test_equal_scores_come_in_table_order_also_where_the_depth_cuts(documents):
    assert BM25Index.build(documents).search(["fear"], 1)[0] == [["c"]]
    assert BM25Index.build(documents).search(["fear"], 9)[0] == [["c", "e"]]


def test_an_index_is_reused_for_the_same_texts_and_parameters_only(documents, tmp_path):
    first = BM25Index.build(documents, cache_dir=tmp_path)
    again = BM25Index.build(documents, cache_dir=tmp_path)
    assert first.search(["mice chase"], 5) == again.search(["mice chase"], 5)
    assert first.search(["mice chase"], 5) == BM25Index.build(documents).search(["mice chase"], 5)
    assert len(list(tmp_path.iterdir())) == 1
    BM25Index.build(documents, k1=1.2, cache_dir=tmp_path)
    BM25Index.build(documents, stemmer=None, cache_dir=tmp_path)
    BM25Index.build(DocumentTable.from_texts(["a"], ["cats"]), cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "no documents"),
        (["...", "the"], {}, "no document has a word"),
        (["cats"], {"tokenizer": "letters"}, "expected words or characters as the tokenizer, got 'letters'"),
        (["cats"], {"stemmer": "klingon"}, "unknown stemmer 'klingon'; expected one of arabic"),
    ],
)
def test_what_cannot_be_indexed_is_an_input_error(texts, options, message):
    table = DocumentTable.from_texts([str(i) for i in range(len(texts))], texts)
    with pytest.raises(InputError, match=message):
        BM25Index.build(table, **options)


CHINESE = [
    "长颈鹿是世界上最高的动物",
    "鸵鸟是现存体型最大的鸟类",
    "面包是由面粉和水制成的食品",
    "玻璃是一种透明的材料",
]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("abc 最高的動物。a péché", ["abc", "最高", "高的", "的動", "動物", "péché"]),
        ("長 カメラ、iphone15の写真", ["長", "カメ", "メラ", "iphone15", "の写", "写真"]),
        ("สวัสดี", ["สว", "วั", "ัส", "สด", "ดี"]),
        ("", []),
    ],
)
def test_scripts_without_spaces_are_split_into_pairs_of_characters(text, tokens):
    assert split_characters(text) == tokens


def test_chinese_is_found_by_its_characters(tmp_path):
    documents = DocumentTable.from_texts(list("abcd"), CHINESE)
    queries = ["最高的动物", "最大的鸟类", "面包的原料", "透明的材料"]
    assert BM25Index.build(documents).search(queries, 1)[0] == [[], [], [], []]
    for _ in range(2):  # built, then from the cache
        index = BM25Index.build(documents, cache_dir=tmp_path, tokenizer="characters")
        assert index.search(queries, 1)[0] == [["a"], ["b"], ["c"], ["d"]]
    assert index.name == "BM25 (k1 0.9, b 0.4, stemmer english, characters)"


def test_queries_that_nothing_is_found_for_are_named_with_the_way_out(caplog):
    documents = DocumentTable.from_texts(list("abcd"), CHINESE)
    queries = {"q1": "最高的动物", "q2": "to be or not to be", "q3": CHINESE[0]}
    collection = Collection("zh", documents, queries, {})
    with caplog.at_level(logging.WARNING):
        ranked = list(BM25Index.build(documents).ranked(collection, list(queries), 2))
    assert [ids for _, ids, _ in ranked] == [[], [], ["a"]]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("BM25 found nothing for 2 of 3 queries (q1, q2)")
    assert "--bm25_tokenizer characters" in caplog.messages[0]


def test_the_words_that_query_and_text_share_are_spelt_as_in_the_query():
    match = word_matcher()
    text = "a vector that is SORTED; sort it, x"
    assert match("Sorting the vectors, sorted x", text) == ["sorting", "vectors", "sorted"]
    assert match("the of", "the of") == []  # stop words
    assert word_matcher("words", None)("sorting the", "sorting the list") == ["sorting", "the"]
    assert word_matcher("characters")("最高的动物", CHINESE[0]) == ["最高", "高的", "的动", "动物"]
