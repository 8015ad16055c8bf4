import math

import ir_measures
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.evaluation.metrics import ndcg, recall, reciprocal_rank


INF = float("inf")


def test_reciprocal_rank_by_hand():
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    labels = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(reciprocal_rank(scores, labels), torch.tensor([0.5, 1.0, 0.0]))


def test_reciprocal_rank_stops_at_the_cut_off():
    scores, labels = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 0, 1]])
    assert reciprocal_rank(scores, labels, k=2).tolist() == [0.0]
    torch.testing.assert_close(reciprocal_rank(scores, labels, k=3), torch.tensor([1 / 3]))


def test_ndcg_by_hand_with_linear_gain():
    # ranked grades 1, 3, 0: 1/log2(2) + 3/log2(3); ideal 3, 1, 0: 3 + 1/log2(3)
    value = ndcg(torch.tensor([[5.0, 4.0, 6.0]]), torch.tensor([[3, 0, 1]]))
    expected = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    torch.testing.assert_close(value, torch.tensor([expected]))


def test_ndcg_against_all_judgments_counts_what_the_list_lacks():
    # one of two relevant documents is in the list and ranks first: 1 / (1 + 1/log2(3))
    scores, labels = torch.tensor([[2.0, 1.0]]), torch.tensor([[1, 0]])
    assert ndcg(scores, labels).item() == 1.0
    value = ndcg(scores, labels, ideal=torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(value, torch.tensor([1 / (1 + 1 / math.log2(3))]))


def test_recall_by_hand():
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    assert recall(scores, torch.tensor([[1, 0, 1, 1]]), k=3).tolist() == [pytest.approx(2 / 3)]
    assert recall(scores, torch.tensor([[0, 0, 0, 0]]), k=3).tolist() == [0.0]


def test_a_constant_scorer_gets_the_worst_value_of_its_lists():
    scores, labels = torch.zeros(1, 4), torch.tensor([[2, 1, 0, 0]])
    assert reciprocal_rank(scores, labels).tolist() == [pytest.approx(1 / 3)]
    # grades in the order 0, 0, 1, 2: the lower grade first among the tied
    expected = (1 / 2 + 2 / math.log2(5)) / (2 + 1 / math.log2(3))
    torch.testing.assert_close(ndcg(scores, labels), torch.tensor([expected]))
    assert recall(scores, labels, k=3).tolist() == [0.5]


def test_minus_infinity_ranks_after_every_number_and_ties_with_itself():
    scores, labels = torch.tensor([[-INF, -1e30, -INF]]), torch.tensor([[1, 0, 0]])
    assert reciprocal_rank(scores, labels).tolist() == [pytest.approx(1 / 3)]


def test_masked_entries_are_never_ranked_even_before_minus_infinity():
    scores = torch.tensor([[9.0, 1.0, -INF, math.nan]])
    labels = torch.tensor([[5, 0, 1, 1]])
    mask = torch.tensor([[False, True, True, False]])
    assert reciprocal_rank(scores, labels, mask).tolist() == [0.5]
    torch.testing.assert_close(ndcg(scores, labels, mask), torch.tensor([1 / math.log2(3)]))
    assert recall(scores, labels, mask, k=1).tolist() == [0.0]


def test_a_query_without_a_relevant_or_a_real_document_gets_0():
    scores, labels = torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([[0, 0], [1, 1]])
    mask = torch.tensor([[True, True], [False, False]])
    for metric in (reciprocal_rank, ndcg, recall):
        assert metric(scores, labels, mask).tolist() == [0.0, 0.0]


def test_nan_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        reciprocal_rank(torch.tensor([[math.nan, 1.0]]), torch.tensor([[1, 0]]))
    with pytest.raises(ValueError, match=r"got \[1, 2\], \[1, 3\] and \[1, 3\]"):
        ndcg(torch.zeros(1, 2), torch.zeros(1, 3))


@st.composite
def tie_free_batches(draw):
    queries, documents = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    size = queries * documents
    scores = draw(st.lists(st.integers(-1000, 1000), min_size=size, max_size=size, unique=True))
    labels = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    return torch.tensor(scores).view(queries, -1).float() / 7, torch.tensor(labels).view(queries, -1)


@settings(max_examples=60, deadline=None)
@given(tie_free_batches(), st.integers(1, 12))
def test_agrees_with_ir_measures_on_tie_free_scores(batch, k):
    scores, labels = batch
    run = {str(q): {f"d{d}": s for d, s in enumerate(row)} for q, row in enumerate(scores.tolist())}
    qrels = {str(q): {f"d{d}": g for d, g in enumerate(row)} for q, row in enumerate(labels.tolist())}
    names = {f"RR@{k}": reciprocal_rank, f"nDCG@{k}": ndcg, f"R@{k}": recall}
    parsed = {ir_measures.parse_measure(name): metric for name, metric in names.items()}
    expected = {(m.measure, int(m.query_id)): m.value for m in ir_measures.iter_calc(list(parsed), qrels, run)}
    for measure, metric in parsed.items():
        for query, value in enumerate(metric(scores, labels, k=k).tolist()):
            assert value == pytest.approx(expected[measure, query], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(tie_free_batches(), st.randoms(use_true_random=False))
def test_the_order_of_the_documents_changes_nothing_even_with_ties(batch, random):
    scores, labels = batch
    scores = (scores / 100).round()  # many ties
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    for metric in (reciprocal_rank, ndcg, recall):
        torch.testing.assert_close(metric(scores, labels, k=3), metric(scores[:, order], labels[:, order], k=3))
