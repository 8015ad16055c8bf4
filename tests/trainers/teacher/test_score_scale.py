"""The option score_scale: spreads by hand, what is divided by what, resumed and in the record."""

import math
from functools import partial

import pytest
import torch
from datasets import Dataset

from m3se import LOSSES, InputError, RankingConfig
from m3se.trainers.data import RankingLists
from m3se.trainers.losses import list_variances
from m3se.trainers.models.lora import add_adapter
from tests.worlds import tiny


COSINE = partial(tiny.dual_encoder, normalize=True)
LEARNED = partial(tiny.dual_encoder, normalize=True, learn_scale=True)
RATE = {"loss": "margin_mse", "learning_rate": 1e-3}


def spread_by_loops(lists, score):
    """The root of the mean over lists of the variance within one; `score(row)` gives the scores of a row."""
    variances = []
    for row in lists.rows:
        scores = [s for s, t in zip(score(row), row["teacher_scores"], strict=True) if not math.isnan(t)]
        if len(scores) > 1:
            mean = sum(scores) / len(scores)
            variances.append(sum((s - mean) ** 2 for s in scores) / len(scores))
    return math.sqrt(sum(variances) / len(variances))


def scores_alone(model, lists, row):
    number = lists.rows["query_id"].index(row["query_id"])
    with torch.no_grad():
        return model.eval()(**tiny.model_inputs(tiny.batch(lists, [number]))).scores[0].tolist()


def partly_scored(lists):
    """The lists without a teacher score here and there; the first has one at most."""
    rows = [dict(row) for row in lists.rows]
    rows[0]["teacher_scores"] = [1.0, *[math.nan] * (len(rows[0]["labels"]) - 1)]
    rows[3]["teacher_scores"][1] = math.nan
    return RankingLists(Dataset.from_list(rows), lists.documents)


def test_variances_within_lists_by_hand():
    scores = torch.tensor([[1.0, 3.0, 9.0], [5.0, 1.0, 0.0], [2.0, 4.0, 6.0]])
    teacher_scores = torch.tensor([[0.0, 4.0, torch.nan], [1.0, torch.nan, torch.nan], [3.0, 3.0, 99.0]])
    mask = torch.tensor([[True, True, True], [True, True, True], [True, True, False]])
    expected = torch.tensor([[1.0, 4.0], [torch.nan, torch.nan], [1.0, 0.0]])
    torch.testing.assert_close(list_variances(scores, teacher_scores, mask), expected, equal_nan=True)


def test_auto_divides_the_teachers_scores_by_the_ratio_of_the_spreads(lists, tmp_path):
    lists = partly_scored(lists)
    trainer = tiny.make_trainer(
        COSINE(dropout=0.3), lists, tmp_path, score_scale="auto", learning_rate=0.0, loss="m3se"
    )
    trainer.train()
    student = spread_by_loops(lists, lambda row: scores_alone(COSINE(), lists, row))
    teacher = spread_by_loops(lists, lambda row: row["teacher_scores"])
    spreads = {"student_spread": student, "teacher_spread": teacher, "score_scale": teacher / student}
    assert trainer.score_scale.spreads == pytest.approx(spreads, rel=1e-5)
    assert {name: trainer.state.log_history[0][name] for name in spreads} == trainer.score_scale.spreads
    assert trainer.state.log_history[0]["step"] == 0
    batch = tiny.batch(lists)
    loss, outputs = trainer.compute_loss(trainer.model.eval(), batch, return_outputs=True)
    divided = batch["teacher_scores"] * student / teacher
    expected = LOSSES["m3se"](outputs["scores"], divided, batch["labels"], batch["mask"])
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", ["mse", "margin_mse", "m3se", "rankdistil_b"])
def test_a_number_divides_the_teachers_scores(loss, lists, tmp_path):
    trainer = tiny.make_trainer(COSINE(), lists, tmp_path, score_scale="4", loss=loss)
    batch = tiny.batch(lists)
    value, outputs = trainer.compute_loss(trainer.model.eval(), batch, return_outputs=True)
    expected = LOSSES[loss](outputs["scores"], batch["teacher_scores"] / 4, batch["labels"], batch["mask"])
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    "build", [LEARNED, partial(tiny.dual_encoder, learn_scale=True), partial(tiny.colbert, learn_scale=True)]
)
@pytest.mark.parametrize("adapted", [False, True])
def test_a_learned_scale_starts_where_the_spreads_are_equal_and_is_logged(build, adapted, lists, tmp_path):
    model = add_adapter(build(), rank=2) if adapted else build()
    start = model.get_base_model().reached_scale() if adapted else model.reached_scale()
    trainer = tiny.make_trainer(model, lists, tmp_path, score_scale="learned", max_steps=1, logging_steps=1, **RATE)
    trainer.train()
    spreads, reached = trainer.score_scale.spreads, trainer.ranking_model.reached_scale()
    assert spreads["student_spread"] * spreads["score_scale"] == pytest.approx(spreads["teacher_spread"])
    changes = [math.exp(sign * 100 * RATE["learning_rate"]) for sign in (-1, 1)]  # of the one step of AdamW
    assert min(abs(reached / (start * spreads["score_scale"] * change) - 1) for change in changes) < 1e-4
    assert tiny.train_logs(trainer)[0]["scale"] == pytest.approx(reached)
    assert trainer.score_scale.teacher_divisor == 1.0


def resumable(option, folder, build):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "score_scale": option}
    return tiny.make_trainer(build(dropout=0.2), tiny.ranking_lists(), folder, **RATE, **options)


@pytest.mark.parametrize("option, build", [("auto", COSINE), ("learned", LEARNED)])
def test_a_resumed_run_has_the_same_scale_bit_for_bit(option, build, tmp_path):
    whole, again = resumable(option, tmp_path, build), resumable(option, tmp_path, partial(build, seed=7))
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.score_scale.spreads == whole.score_scale.spreads
    assert again.score_scale.teacher_divisor == whole.score_scale.teacher_divisor
    assert torch.equal(tiny.flat_weights(again.model), tiny.flat_weights(whole.model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"loss": "softmax_distillation", "score_scale": "auto"},
            "score_scale: for mse, .*; softmax_dist",
        ),
        ({"score_scale": "0"}, "score_scale: expected auto, learned or a number above 0, got '0'"),
        ({"score_scale": -2.0}, "expected auto, learned or a number above 0, got -2.0"),
        ({"score_scale": "nan"}, "expected auto, learned or a number above 0, got 'nan'"),
        ({"score_scale": "automatic"}, "expected auto, learned or a number above 0, got 'automatic'"),
        ({"score_scale": "auto", "train_sample_size": 0}, "score_scale: auto needs train_sample_size 1 or more"),
    ],
)
def test_a_scale_that_cannot_be_is_refused_before_any_work(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        RankingConfig(str(tmp_path), use_cpu=True, report_to="none", **{"loss": "m3se"} | options)


def test_a_model_without_a_scale_cannot_learn_one(lists, tmp_path):
    for build in (COSINE, tiny.cross_encoder):
        with pytest.raises(InputError, match="score_scale: learned needs a dual encoder or ColBERT with learn_scale"):
            tiny.make_trainer(build(), lists, tmp_path, loss="m3se", score_scale="learned")


@pytest.mark.parametrize("scores", [2.0, math.nan])
def test_a_teacher_without_a_spread_is_refused_before_the_first_step(scores, lists, tmp_path):
    rows = lists.rows.map(lambda row: {"teacher_scores": [scores] * len(row["labels"])})
    trainer = tiny.make_trainer(
        COSINE(), RankingLists(rows, lists.documents), tmp_path, loss="m3se", score_scale="auto"
    )
    with pytest.raises(
        InputError, match=f"score_scale: expected scores that differ .* the 8 lists .* {0 * scores:.3g}"
    ):
        trainer.train()
    assert trainer.state.global_step == 0
