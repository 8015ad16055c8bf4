"""The tokens that meet in MaxSim, beside the score that they explain."""

import numpy as np
import pytest

from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.tokens.meetings import token_meetings


QUERY, DOCUMENT = "vector sum", "the sum of a vector"


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_similarities_make_the_score(colbert, reduction):
    scorer = load_scorer(colbert, "float32")
    scorer.model.config.reduction = reduction
    documents = [DOCUMENT, "sort", "path of a node of the graph"]  # of several lengths
    values = []
    for meetings in token_meetings(scorer, QUERY, documents):
        similarities = [meeting.similarity for meeting in meetings]
        values.append(np.mean(similarities) if reduction == "mean" else np.sum(similarities))
    assert values == pytest.approx(scorer.score(QUERY, documents), rel=1e-5)


def test_tokens_are_those_that_are_compared(colbert):
    (meetings,) = token_meetings(load_scorer(colbert, "float32"), QUERY, [DOCUMENT])
    # the query is filled up to seven tokens with [MASK]; its marker is the word "of"
    query_tokens = [meeting.query_token for meeting in meetings]
    assert query_tokens == ["[CLS]", "of", "vector", "sum", "[SEP]", "[MASK]", "[MASK]"]
    # the document's marker is "matrix", and "the" is not compared
    assert {meeting.document_token for meeting in meetings} <= {"[CLS]", "matrix", "sum", "of", "a", "vector", "[SEP]"}


def test_a_document_without_a_token_meets_nothing(colbert):
    scorer = load_scorer(colbert, "float32")
    scorer.model.config.skiplist_ids = list(range(scorer.model.config.encoder_config.vocab_size))
    assert token_meetings(scorer, QUERY, [DOCUMENT]) == [[]]
