"""The benchmark itself runs: on so few documents it measures nothing."""

import runpy
import sys
from pathlib import Path

import pytest

from m3se.run_scripts.benchmarks import data_memory
from m3se.trainers.data import RankingLists


def test_the_benchmark_takes_its_files_to_scored_lists(tmp_path):
    assert data_memory.write_collection(tmp_path, 200) == 11
    found = data_memory.prepare(tmp_path)
    assert set(found) == {"read", "group", "lists", "peak"} and min(found.values()) > 0
    rows = RankingLists.load(tmp_path / "lists").rows
    assert len(rows) == 11 and "teacher_scores" in rows.column_names
    assert all(2 <= len(ids) <= 20 for ids in rows["document_ids"])


@pytest.mark.parametrize("name", ["data_memory", "search_memory"])
def test_a_system_that_counts_no_memory_imports_the_benchmark(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert "main" in runpy.run_path(str(Path(data_memory.__file__).with_name(f"{name}.py")))
