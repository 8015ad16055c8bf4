import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3se.trainers.data.candidates import RandomCandidates, RankedList
from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.data.lists import training_lists
from m3se.trainers.data.schema import Collection
from m3se.trainers.data.united import LaterCandidates, UnitedCandidates, interleave
from m3se.trainers.errors import InputError


class FixedCandidates:
    """The rankings that it is given."""

    ranker = ""

    def __init__(self, name, rankings, is_ranked=True):
        self.name, self.rankings, self.is_ranked = name, rankings, is_ranked

    def ranked(self, collection, queries, depth):
        for query in queries:
            yield RankedList(query, list(self.rankings[query][:depth]), None)


@pytest.mark.parametrize(
    ("lists", "shares", "merged"),
    [
        (["abcd", "wxyz"], [0.5, 0.5], "awbxcydz"),
        (["abcd", "bady"], [0.5, 0.5], "abcdy"),  # b and a count for the list that named them first
        (["abcd", "wxyz"], [0.25, 0.75], "waxyzbcd"),
        (["ab", "wxyz"], [0.5, 0.5], "awbxyz"),
        (["abcd", "aefg"], [0.25, 0.75], "abefgcd"),  # a is the second's, so that b is the first's turn
        (["", "wx"], [0.9, 0.1], "wx"),
        (["abc", "def", "ghi"], [1 / 3] * 3, "adgbehcfi"),
    ],
)
def test_rankings_are_merged_by_their_shares(lists, shares, merged):
    assert "".join(interleave(lists, shares, 8)) == merged[:8]


RANKING = st.lists(st.integers(0, 20).map(str), unique=True, max_size=15)


@given(RANKING, RANKING, st.floats(0.05, 0.95), st.integers(0, 20))
def test_a_union_holds_the_beginnings_of_both_and_no_document_twice(first, second, share, depth):
    merged = interleave([first, second], [share, 1 - share], depth)
    assert len(merged) == len(set(merged)) == min(depth, len(set(first) | set(second)))
    beginning = merged[:depth]
    assert set(first[: int(share * len(beginning))]) <= set(beginning)
    assert set(second[: int((1 - share) * len(beginning))]) <= set(beginning)
    assert interleave([first, second], [share, 1 - share], depth + 1)[: len(merged)] == merged


@pytest.fixture
def collection():
    documents = DocumentTable.from_texts(list("abcdefgh"), ["text"] * 8)
    return Collection("eight", documents, {"q": "one", "r": "two"}, {"q": {"h": 1.0}, "r": {"a": 1.0}})


def test_known_positives_of_a_union_are_no_negatives(collection):
    bm25 = FixedCandidates("BM25", {"q": "abcd", "r": "abcd"})
    dense = FixedCandidates("model", {"q": "hgfe", "r": "edcb"})
    united = UnitedCandidates([bm25, dense], [1, 1])
    assert united.name == "50% BM25 + 50% model"
    lists = training_lists(collection, united, 4, depth=6, negatives="top")
    assert lists.rows["document_ids"][:] == [["h", "a", "b", "g"], ["a", "e", "b", "d"]]
    assert lists.report["lists"]["candidates"] == united.name
    uneven = UnitedCandidates([bm25, dense], [1, 3])
    assert [ranking.document_ids for ranking in uneven.ranked(collection, ["q"], 4)] == [["h", "a", "g", "f"]]


def test_the_best_ranks_can_be_passed_over(collection):
    source = LaterCandidates(FixedCandidates("BM25", {"q": "abcdef", "r": "ab"}), 2)
    rankings = [ranking.document_ids for ranking in source.ranked(collection, ["q", "r"], 5)]
    assert rankings == [["c", "d", "e"], []] and source.name == "BM25 from rank 3"


def test_what_cannot_be_united_is_refused():
    sources = [RandomCandidates(), FixedCandidates("triples", {}, is_ranked=False)]
    with pytest.raises(InputError, match="the lists of triples are in no order and cannot be united"):
        UnitedCandidates(sources)
    for shares in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(InputError, match="expected a number above 0 for each of random, random, got 1.0"):
            UnitedCandidates([RandomCandidates(), RandomCandidates()], shares)
    with pytest.raises(InputError, match="--skip: expected 0 or more, and candidates with an order, got -1 of random"):
        LaterCandidates(RandomCandidates(), -1)
