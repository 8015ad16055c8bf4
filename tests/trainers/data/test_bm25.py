import math

import pytest

from m3se.trainers.data.bm25 import BM25Index
from m3se.trainers.data.documents import DocumentTable
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
        (["cats"], {"stemmer": "klingon"}, "unknown stemmer 'klingon'; expected one of arabic"),
    ],
)
def test_what_cannot_be_indexed_is_an_input_error(texts, options, message):
    table = DocumentTable.from_texts([str(i) for i in range(len(texts))], texts)
    with pytest.raises(InputError, match=message):
        BM25Index.build(table, **options)
