import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from m3se.modeling.scoring import maxsim_scores
from m3se.trainers.retrieval.tokens import maxsim
from m3se.trainers.retrieval.tokens.maxsim import maxsim_of_all


def test_each_query_token_takes_its_best_document_token():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # two tokens, then one
    documents = torch.tensor([[2.0, 0.0], [1.0, 3.0], [-4.0, -4.0]])  # two tokens, none, then one
    arguments = queries, torch.tensor([2, 1]), documents, torch.tensor([2, 0, 1])
    expected = torch.tensor([[2.5, -torch.inf, -4.0], [4.0, -torch.inf, -8.0]])
    torch.testing.assert_close(maxsim_of_all(*arguments, "mean"), expected)
    expected[0] *= 2
    torch.testing.assert_close(maxsim_of_all(*arguments, "sum"), expected)


@given(
    query_lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    document_lengths=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    reduction=st.sampled_from(["mean", "sum"]),
    numbers=st.integers(1, 200),
)
@settings(deadline=None)
def test_scores_are_those_of_padded_tokens_whatever_the_chunks(query_lengths, document_lengths, reduction, numbers):
    draw = torch.Generator().manual_seed(sum(query_lengths))
    queries = [torch.randn(length, 8, generator=draw) for length in query_lengths]
    documents = [torch.randn(length, 8, generator=draw) for length in document_lengths]
    lengths = torch.tensor(query_lengths), torch.tensor(document_lengths)
    padded, masks = [], []
    for texts, counts in zip((queries, documents), lengths, strict=True):
        padded.append(torch.stack([pad(text, (0, 0, 0, 7 - len(text))) for text in texts]))
        masks.append(torch.arange(7) < counts[:, None])
    copies = len(queries), *[-1] * 3
    expected = maxsim_scores(padded[0], masks[0], padded[1].expand(copies), masks[1].expand(copies[:3]), reduction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maxsim, "chunk_numbers", lambda device: numbers)
        scores = maxsim_of_all(torch.cat(queries), lengths[0], torch.cat(documents), lengths[1], reduction)
    torch.testing.assert_close(scores, expected)
