import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.modeling.scoring import maxsim_scores


def random_tokens(b=2, k=3, q=4, d=5, h=6, seed=0):
    """Embeddings and ragged masks; every text has at least one token."""
    torch.manual_seed(seed)
    query_mask = torch.arange(q) < torch.randint(1, q + 1, (b, 1))
    document_mask = torch.arange(d) < torch.randint(1, d + 1, (b, k, 1))
    return torch.randn(b, q, h), query_mask, torch.randn(b, k, d, h), document_mask


def maxsim_by_loops(queries, query_mask, documents, document_mask, reduction):
    scores = torch.empty(documents.shape[:2])
    for b, k in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist():
        words = [w for w, real in zip(documents[b, k], document_mask[b, k], strict=True) if real]
        best = [max(float(q @ w) for w in words) for q, real in zip(queries[b], query_mask[b], strict=True) if real]
        scores[b, k] = sum(best) / (len(best) if reduction == "mean" else 1)
    return scores


def test_maxsim_by_hand():
    queries = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    documents = torch.tensor([[[[2.0, 5.0], [3.0, 1.0], [99.0, 99.0]]]])
    masks = torch.tensor([[1, 1, 0]]), torch.tensor([[[1, 1, 0]]])
    # the first query token likes 3, the second 5
    assert maxsim_scores(queries, masks[0], documents, masks[1]).tolist() == [[4.0]]
    assert maxsim_scores(queries, masks[0], documents, masks[1], "sum").tolist() == [[8.0]]


@given(b=st.integers(1, 3), k=st.integers(1, 3), q=st.integers(1, 4), d=st.integers(1, 4), seed=st.integers(0, 1000))
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@settings(deadline=None, max_examples=30)
def test_maxsim_matches_loops(reduction, b, k, q, d, seed):
    tokens = random_tokens(b, k, q, d, seed=seed)
    torch.testing.assert_close(maxsim_scores(*tokens, reduction), maxsim_by_loops(*tokens, reduction))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_maxsim_agrees_with_sentence_transformers(reduction):
    similarity = pytest.importorskip("sentence_transformers.util.similarity")
    queries, query_mask, documents, document_mask = random_tokens(k=1)
    theirs = similarity.maxsim_pairwise(
        queries, documents[:, 0], query_mask, document_mask[:, 0], length_normalize=reduction == "mean"
    )
    torch.testing.assert_close(maxsim_scores(queries, query_mask, documents, document_mask, reduction)[:, 0], theirs)


def test_padding_cannot_win_over_negative_similarities():
    queries, documents = torch.ones(1, 1, 2), torch.tensor([[[[-1.0, -2.0], [0.0, 0.0]]]])
    scores = maxsim_scores(queries, torch.ones(1, 1), documents, torch.tensor([[[1, 0]]]))
    assert scores.item() == -3.0


@pytest.mark.parametrize("garbage", [7.0, -1e30, 1e30])
def test_what_padding_holds_changes_neither_value_nor_gradient(garbage):
    queries, query_mask, documents, document_mask = random_tokens()

    def value_and_gradient(fill):
        leaves = [
            part.masked_fill(~mask[..., None], fill).requires_grad_()
            for part, mask in ((queries, query_mask), (documents, document_mask))
        ]
        scores = maxsim_scores(leaves[0], query_mask, leaves[1], document_mask)
        scores.sum().backward()
        return scores, leaves[0].grad[query_mask], leaves[1].grad[document_mask]

    for filled, plain in zip(value_and_gradient(garbage), value_and_gradient(0.0), strict=True):
        torch.testing.assert_close(filled, plain)


def test_a_document_without_a_token_scores_minus_infinity_without_a_gradient():
    queries, query_mask, documents, document_mask = random_tokens()
    document_mask[0, 1] = False
    documents.requires_grad_()
    scores = maxsim_scores(queries, query_mask, documents, document_mask)
    assert scores[0, 1] == -torch.inf
    assert scores.isfinite().sum() == scores.numel() - 1
    scores[scores.isfinite()].sum().backward()
    assert documents.grad.isfinite().all()
    assert (documents.grad[0, 1] == 0).all()


def test_maxsim_gradient_matches_finite_differences():
    queries, query_mask, documents, document_mask = random_tokens()
    leaves = queries.double().requires_grad_(), documents.double().requires_grad_()
    torch.autograd.gradcheck(lambda q, d: maxsim_scores(q, query_mask, d, document_mask), leaves)


def test_another_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', got 'max'"):
        maxsim_scores(*random_tokens(), "max")
