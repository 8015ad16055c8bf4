"""The long run in short: that what it watches would show a leak."""

from tests.reliability.programs.long_run import score, train, watched


def test_training_and_scoring_leave_no_file_open(tmp_path):
    trained, scored = train(10, tmp_path / "training"), score(2_000, tmp_path)
    assert trained.more_files <= 0 and scored.more_files <= 0
    assert min(len(trained.memory), len(scored.memory)) >= 3


def test_a_leak_is_seen(tmp_path):
    kept = []
    with watched() as watch:
        for _ in range(20):
            watch.sample()
            kept.append((bytearray(20_000_000), open(tmp_path / "file", "w")))  # noqa: SIM115
    assert not watch.fine and watch.growth > 0.05 and watch.more_files >= 14
    for _, file in kept:
        file.close()
