import pytest
import torch
from datasets import Dataset

from m3se.trainers.meter import Meter, count_unusable


NAN = torch.nan


def test_counts_become_rates_and_shares_and_start_anew():
    meter = Meter(torch.device("cpu"))
    scores = torch.tensor([[2.0, 1.0, 9.0], [1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [3.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    # agrees; does not; one known score cannot be compared; masked and unknown ones are no candidates: agrees, twice
    teacher_scores = torch.tensor(
        [[5.0, 4.0, NAN], [3.0, 2.0, 1.0], [NAN, 2.0, NAN], [1.0, 0.0, 7.0], [5.0, 4.0, NAN]]
    )
    mask = torch.tensor([[True] * 3, [True] * 3, [True] * 3, [True, True, False], [True] * 3])
    meter.add(scores, teacher_scores, mask, torch.tensor([True, True, False, True, True]), documents=40)
    meter.add(scores[:1], teacher_scores[:1], mask[:1], torch.tensor([False]), documents=10)
    meter.seconds = 2.0
    report = meter.read()
    assert report["teacher_top1_agreement"] == pytest.approx(4 / 5)
    assert report["skipped_queries"] == 2
    assert report["documents_per_second"] == 25.0
    assert meter.read()["skipped_queries"] == 0


def test_padding_is_what_the_encoder_reads_in_training():
    class Encoder(torch.nn.Module):
        def forward(self, attention_mask):
            return attention_mask

    meter, encoder = Meter(torch.device("cpu")), Encoder()
    meter.watch(encoder)
    encoder(attention_mask=torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]))
    encoder(attention_mask=torch.tensor([[1, 1]]))
    encoder.eval()(attention_mask=torch.zeros(50, 50))
    assert meter.read()["padding"] == pytest.approx(3 / 10)


def test_without_teacher_scores_there_is_no_agreement():
    meter = Meter(torch.device("cpu"))
    scores = torch.zeros(2, 3)
    meter.add(scores, torch.full_like(scores, NAN), torch.ones(2, 3, dtype=torch.bool), torch.ones(2).bool(), 6)
    assert "teacher_top1_agreement" not in meter.read()


@pytest.mark.parametrize(
    ("loss", "options", "unusable"),
    [
        ("softmax_ce", {}, 3),  # all but the first: no positive, or nothing to rank it against
        ("softmax_ce", {"added_negatives": True}, 2),
        ("margin_mse", {}, 3),
        ("m3se", {}, 2),  # the second has two negatives, for the hinge
        ("softmax_distillation", {}, 2),
        ("mse", {}, 1),
        ("mse", {"one_hot_weight": 0.5, "added_negatives": True}, 0),
    ],
)
def test_lists_that_a_loss_cannot_use_are_counted_before_training(loss, options, unusable):
    rows = Dataset.from_dict(
        {
            "labels": [[1.0, 0.0, 0.0], [0.0, 0.0], [0.0], [1.0]],
            "teacher_scores": [[3.0, NAN, 1.0], [2.0, 1.0], [1.0], [NAN]],
        }
    )
    assert count_unusable(rows, loss, **options) == {"without_positive": 2, "unusable": unusable}
    unscored = count_unusable(rows.remove_columns("teacher_scores"), "softmax_ce")
    assert unscored == {"without_positive": 2, "unusable": 3}
