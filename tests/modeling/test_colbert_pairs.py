"""MaxSim of chosen pairs: chunks, the memory they take, and rows that need no copy."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from m3se.modeling import colbert as colbert_module
from m3se.modeling.colbert import ColBERT, ColBERTConfig
from tests.worlds import tiny


QUERY_LENGTH, LENGTH, WIDTH = 5, 11, 6


@pytest.fixture
def model():
    fields = {"projection_size": WIDTH, "mask_augmentation": "none", "scale": 1.0}
    return ColBERT(ColBERTConfig(encoder_config=tiny.bert(), **fields))


def embedded(queries, documents):
    """Token embeddings and masks of both sides, with documents of different lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, LENGTH + 1, (documents, 1), generator=generator)
    return (
        torch.randn(queries, QUERY_LENGTH, WIDTH, generator=generator),
        torch.ones(queries, QUERY_LENGTH, dtype=torch.bool),
        torch.randn(documents, LENGTH, WIDTH, generator=generator),
        torch.arange(LENGTH) < lengths,
    )


class Calls(TorchDispatchMode):
    """Which operators ran under it, and how many numbers the largest tensor had that one of them made."""

    def __init__(self):
        super().__init__()
        self.operators, self.numbers = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operators.add(func.overloadpacket)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_score_adds_up_or_averages_the_best_token_for_each_query_token(model, reduction):
    model.config.reduction = reduction
    queries, query_mask, documents, mask = tokens = embedded(2, 3)
    query_mask[1, 3:] = False
    expected = [
        getattr((queries[q, query_mask[q]] @ documents[d, mask[d]].T).amax(dim=1), reduction)()
        for q, d in ((0, 1), (0, 2), (1, 2), (1, 0))
    ]
    scores = model.score_pairs(*tokens, torch.tensor([0, 0, 1, 1]), torch.tensor([1, 2, 2, 0]))
    torch.testing.assert_close(scores, torch.stack(expected))


@pytest.mark.parametrize("chunk", [2**7, 2**11, 2**30])
def test_the_order_of_pairs_changes_no_score(model, monkeypatch, chunk):
    monkeypatch.setattr(colbert_module, "chunk_numbers", lambda device: chunk)
    tokens, queries, documents = embedded(3, 40), torch.arange(3).repeat_interleave(40), torch.arange(40).repeat(3)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(1))
    scores = model.score_pairs(*tokens, queries, documents)
    torch.testing.assert_close(model.score_pairs(*tokens, queries[order], documents[order]), scores[order])
    assert len(scores.unique()) == 120


@pytest.mark.parametrize(
    ("rows", "copied"), [([4, 5, 6], False), ([4], False), ([4, 4], False), ([4, 6, 5], True), ([4, 4, 5], True)]
)
def test_rows_that_are_the_same_or_follow_each_other_are_not_copied(rows, copied):
    documents, rows = torch.randn(9, LENGTH, WIDTH), torch.tensor(rows)
    with Calls() as calls:
        [taken] = colbert_module.select_rows(rows, documents)
    assert (torch.ops.aten.index in calls.operators) == copied
    assert torch.equal(taken, documents[rows])


def test_no_pairs_have_no_scores(model):
    nothing = torch.zeros(0, dtype=torch.long)
    assert model.score_pairs(*embedded(1, 2), nothing, nothing).shape == (0,)


def test_gradients_do_not_keep_the_similarities_of_all_pairs(model, monkeypatch):
    queries, query_mask, documents, mask = embedded(1, 300)
    documents.requires_grad_()
    rows, kept = torch.arange(300), []
    for numbers in (2**12, 2**30):
        monkeypatch.setattr(colbert_module, "chunk_numbers", lambda device, numbers=numbers: numbers)
        total = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, total=total: total.append(tensor.numel()) or tensor, id
        ):
            model.score_pairs(queries, query_mask, documents, mask, 0 * rows, rows)
        kept.append(sum(total))
    assert kept[0] < 300 * QUERY_LENGTH * LENGTH < kept[1]


@pytest.mark.parametrize("gradients", [False, True])
def test_scoring_many_documents_makes_no_tensor_larger_than_a_chunk(model, monkeypatch, gradients):
    monkeypatch.setattr(colbert_module, "chunk_numbers", lambda device: 2**12)
    queries, query_mask, documents, mask = embedded(1, 300)
    documents.requires_grad_(gradients)
    for rows in (torch.arange(300), torch.arange(300).flip(0)):
        with Calls() as calls, torch.set_grad_enabled(gradients):
            model.score_pairs(queries, query_mask, documents, mask, 0 * rows, rows)
        assert calls.numbers <= 2**12  # all at once the similarities would be 300 * 5 * 11 numbers
