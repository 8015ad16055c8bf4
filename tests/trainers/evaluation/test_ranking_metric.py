import math
from pathlib import Path

import evaluate
import pytest

from m3se.trainers.evaluation import run_metrics as measures


FOLDER = Path(measures.__file__).parent / "ranking_metric"
PREDICTIONS = [
    {"document_ids": ["a", "b", "c"], "scores": [0.1, 0.3, 0.2]},
    {"document_ids": ["a", "d"], "scores": [0.5, 0.5]},
]
REFERENCES = [
    {"document_ids": ["c", "x"], "grades": [1, 0]},
    {"document_ids": ["d"], "grades": [2]},
]


@pytest.fixture
def metric(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return evaluate.load(str(FOLDER), cache_dir=str(tmp_path))


def test_loads_offline_and_computes_what_the_measures_do(metric):
    # ranks 2 and, the tie broken against the model, 2
    result = metric.compute(predictions=PREDICTIONS, references=REFERENCES)
    assert result == pytest.approx(
        {"MRR@10": 0.5, "nDCG@10": 1 / math.log2(3), "Recall@100": 1.0, "queries": 2, "ties": 2}
    )


def test_batches_and_options_reach_the_measures(metric):
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        metric.add_batch(predictions=[prediction], references=[reference])
    assert metric.compute(measures=["MRR@1", "Recall@2"], relevance_level=2) == pytest.approx(
        {"MRR@1": 0.0, "Recall@2": 0.5, "queries": 2, "ties": 2}
    )
