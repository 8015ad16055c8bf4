import numpy as np
import pytest

from m3se.trainers.backends.loss import Outputs, compare


def test_the_loss_by_hand():
    exact = Outputs([np.array([3.0, 1.0, 2.0]), np.array([5.0])], np.array([[1.0, 0.0], [0.0, 2.0]]))
    moved = Outputs([np.array([3.0, 2.0, 1.5]), np.array([9.0])], np.array([[3.0, 4.0], [0.0, 1.0]]))
    loss = compare(exact, moved)
    assert (loss.queries, loss.documents) == (2, 4)
    assert loss.kendall_tau == pytest.approx(1 / 3)  # one of three pairs has changed places
    assert loss.margin == pytest.approx((2 + 1 + 1) / 3)
    assert loss.margin_moved == pytest.approx((1 + 0.5 + 1.5) / 3)
    assert (loss.cosine, loss.lowest_cosine) == (pytest.approx(0.8), pytest.approx(0.6))


def test_models_without_embeddings_have_no_cosine():
    outputs = Outputs([np.array([1.0, 0.0])], None)
    assert compare(outputs, outputs).as_dict() == {
        "queries": 1,
        "documents": 2,
        "kendall_tau": 1.0,
        "margin": 1.0,
        "margin_moved": 0.0,
    }
