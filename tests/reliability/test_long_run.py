"""The long run in short, and a leak that it would show."""

import torch

from tests.reliability.programs.long_run import score, train, watched


def test_training_and_scoring_leave_no_file_open(tmp_path):
    trained, scored = train(10, tmp_path / "training"), score(2_000, tmp_path)
    assert trained.more_files <= 0 and scored.more_files <= 0
    assert min(len(trained.memory), len(scored.memory)) >= 10  # one for each call of the model


def test_a_leak_is_seen(tmp_path):
    model, leak = torch.nn.Identity(), []
    with watched(model) as watch:
        for _ in range(20):
            leak.append((bytearray(20_000_000), open(tmp_path / "file", "w")))  # noqa: SIM115
            model(torch.zeros(1))
    assert not watch.fine and watch.growth > 0.05 and watch.more_files >= 14
    for _, file in leak:
        file.close()
