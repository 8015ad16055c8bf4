import pytest
import torch

from m3se.trainers.meter import Meter


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
