"""The benchmark itself runs: on so few documents it measures nothing."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from m3se.run_scripts.benchmarks.sizes import data_memory, store_sizes
from m3se.trainers.data import RankingLists


def test_the_benchmark_takes_its_files_to_scored_lists(tmp_path):
    assert data_memory.write_collection(tmp_path, 200) == 11
    found = data_memory.prepare(tmp_path)
    assert set(found) == {"read", "group", "lists", "peak"} and min(found.values()) > 0
    rows = RankingLists.load(tmp_path / "lists").rows
    assert len(rows) == 11 and "teacher_scores" in rows.column_names
    assert all(2 <= len(ids) <= 20 for ids in rows["document_ids"])


@pytest.mark.parametrize("name", ["data_memory", "search_memory", "store_sizes"])
def test_a_system_that_counts_no_memory_imports_the_benchmark(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert "main" in runpy.run_path(str(Path(data_memory.__file__).with_name(f"{name}.py")))


def test_the_exact_answers_of_the_store_benchmark_are_those_of_one_comparison_of_all(monkeypatch):
    monkeypatch.setattr(store_sizes, "BLOCK", 7)
    monkeypatch.setattr(store_sizes, "CENTRES", 3)
    queries = store_sizes.draw(4, 5, seed=0)
    vectors = np.vstack(list(store_sizes.blocks(30, 5)))
    assert len(vectors) == 30 and np.allclose(np.linalg.norm(vectors, axis=1), 1)
    order = np.argsort(-queries @ vectors.T, axis=1)[:, : store_sizes.K]
    assert store_sizes.best_rows(queries, 30) == [set(map(str, row)) for row in order]
