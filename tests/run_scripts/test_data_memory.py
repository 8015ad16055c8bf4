"""The benchmark itself runs: on so few documents it measures nothing."""

from m3se.run_scripts.benchmarks import data_memory
from m3se.trainers.data import RankingLists


def test_the_benchmark_takes_its_files_to_scored_lists(tmp_path):
    assert data_memory.write_collection(tmp_path, 200) == 11
    found = data_memory.prepare(tmp_path)
    assert set(found) == {"read", "group", "lists", "peak"} and min(found.values()) > 0
    rows = RankingLists.load(tmp_path / "lists").rows
    assert len(rows) == 11 and "teacher_scores" in rows.column_names
    assert all(2 <= len(ids) <= 20 for ids in rows["document_ids"])
