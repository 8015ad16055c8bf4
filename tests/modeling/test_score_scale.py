"""The factor on all scores: fixed, learned, saved, and refused where it cannot be."""

import math

import pytest
import torch

from m3se import ColBERT, DualEncoder
from m3se.modeling.scoring import ScoreScale
from tests.worlds import tiny


BUILDERS = {"dual_encoder": (DualEncoder, tiny.dual_encoder), "colbert": (ColBERT, tiny.colbert)}


def score(model, batch):
    with torch.no_grad():
        return model.eval()(**tiny.model_inputs(batch)).scores


def test_a_scale_multiplies_by_hand():
    scores = torch.tensor([[2.0, -0.5, -torch.inf]])
    assert ScoreScale(20.0, False)(scores).tolist() == [[40.0, -10.0, -math.inf]]
    learned = ScoreScale(20.0, True)
    assert learned(scores).tolist() == [[40.0, -10.0, -math.inf]]
    with torch.no_grad():
        learned.weight.fill_(0.01)  # 100 · 0.01 = 1: e times as much
    torch.testing.assert_close(learned(scores), 20 * math.e * scores)
    learned.multiply(0.5)
    torch.testing.assert_close(learned(scores), 10 * math.e * scores)


def test_the_gradient_of_a_scale_is_right_and_finite_beside_absent_documents():
    scale, scores = ScoreScale(3.0, True).double(), torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    scale.weight.data.fill_(0.002)
    assert torch.autograd.gradcheck(scale, scores)
    partly = torch.tensor([[1.0, -torch.inf]])
    scale(partly)[:, 0].sum().backward()
    torch.testing.assert_close(scale.weight.grad, torch.tensor([3 * math.exp(0.2)], dtype=torch.float64))


def test_a_step_of_adamw_moves_a_scale_by_a_hundred_times_the_learning_rate():
    scale = ScoreScale(20.0, True)
    optimizer = torch.optim.AdamW(scale.parameters(), lr=2e-5)
    scale(torch.ones(1)).backward()
    optimizer.step()
    assert scale(torch.ones(1)).item() == pytest.approx(20 * math.exp(-100 * 2e-5), rel=1e-5)


@pytest.mark.parametrize("kind", BUILDERS)
def test_scores_are_multiplied_and_saved_with_the_scale_they_have_reached(kind, lists, tmp_path):
    model_class, build = BUILDERS[kind]
    batch = tiny.batch(lists)
    plain, learned = build(scale=1.0), build(scale=3.0, learn_scale=True)
    learned.score_scale.multiply(0.5)
    torch.testing.assert_close(score(learned, batch), 1.5 * score(plain, batch))
    assert learned.reached_scale() == pytest.approx(1.5)
    learned.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    assert torch.equal(score(loaded, batch), score(learned, batch))
    assert (loaded.config.scale, loaded.config.learn_scale) == (3.0, True)


def test_a_scale_that_a_checkpoint_does_not_have_starts_at_the_configs(tmp_path):
    """transformers leaves weights that are missing as memory happens to be, unless they are initialised."""
    tiny.dual_encoder(normalize=True).save_pretrained(tmp_path)
    loaded = DualEncoder.from_pretrained(tmp_path, learn_scale=True)
    assert loaded.score_scale.weight.tolist() == [0.0]
    assert loaded.reached_scale() == 20.0


def test_a_colbert_is_trained_further_from_the_scale_it_has_reached(lists, tmp_path):
    start = tiny.colbert(scale=3.0, learn_scale=True)
    start.score_scale.multiply(2.0)
    for learn_scale in (False, True):
        again = ColBERT.from_colbert(start, "start", None, None, {"learn_scale": learn_scale})
        torch.testing.assert_close(score(again, tiny.batch(lists)), score(start, tiny.batch(lists)))
        assert (again.score_scale.weight is not None) == learn_scale


@pytest.mark.parametrize("build", [tiny.dual_encoder, tiny.colbert])
@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan, "20", True])
def test_a_scale_that_cannot_be_is_refused(build, scale):
    with pytest.raises(ValueError, match=f"scale must be a number above 0, got {scale!r}"):
        build(scale=scale)
