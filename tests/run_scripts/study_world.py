"""Recipes of a tiny scale, and a study of a teacher and two students."""

import json
from pathlib import Path

import yaml

from m3se.run_scripts.reproduction.plan import Planner
from m3se.run_scripts.reproduction.study import read_scale, read_study


SELECTION = {"measure": "MRR@10", "trials": {"default": [{"learning_rate": 1e-4}, {"learning_rate": 1e-2}]}}

STUDY = {
    "title": "Losses",
    "table": "table1",
    "baseline": "one-hot",
    "upper": "CA",
    "columns": {"rerank MRR@10": "MSMARCO re-rank MRR@10", "nowhere MRR@10": "NQ re-rank MRR@10"},
    "rows": {
        "CA": {"model": "teacher", "paper_row": "Cross-attention BERT (12-layer)"},
        "one-hot": {"model": "one_hot", "paper_row": "Dual-encoder BERT (6-layer)"},
        "M3SE": {"model": "m3se", "paper_row": "M3SE"},
    },
}


def write_recipes(root: Path, selection: dict = SELECTION) -> Path:
    """Recipes of a tiny scale, and a study of a teacher and two students."""
    folder = root / "recipes"
    (folder / "losses").mkdir(parents=True)
    common = {
        "encoder": str(root / "encoder"),
        "query_length": 8,
        "document_length": 16,
        "dropout": 0.0,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "dev_queries": 2,
        "dev_depth": 5,
        "train_sample_size": 4,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "output_dir": "unused",
    }
    recipes = {
        "teacher": common | {"data": "data/words", "documents_per_query": 3, "depth": 10},
        "scores": {
            "teacher": "unused",
            "data": "data/words",
            "documents_per_query": 4,
            "depth": 10,
            "output": "unused",
        },
        "student": common | {"data": "unused", "dev_data": "data/words", "layers": 1, "pooling": "mean"},
    }
    scale = {
        "about": "tiny",
        "data": "data/words",
        "documents": 60,
        "held_out": 4,
        "flops": 1e9,
        "flops_basis": "a guess",
        "teacher": {"recipe": "teacher.yaml"},
        "lists": {"recipe": "scores.yaml"},
        "students": {
            "one_hot": {"recipe": "student.yaml", "set": {"loss": "softmax_ce"}},
            "m3se": {"recipe": "student.yaml", "set": {"loss": "m3se"}},
        },
        "selection": selection,
        "evaluations": {
            "rerank": {"split": "test", "candidates": "bm25", "depth": 10},
            "retrieval": {"split": "test", "retrieve": True, "depth": 10},
        },
    }
    for name, content in {**recipes, "scales": {"small": scale}, "losses/study": STUDY}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder


def planner_of(recipes: Path, output: Path, data: str = "nowhere/words") -> Planner:
    return Planner(read_scale("small", recipes), data, output)


def finish(job, dev: float) -> None:
    """What a training leaves behind, as far as plans read it."""
    job.folder.mkdir(parents=True)
    record = {"log_history": [{"step": 1, "eval_MRR@10": dev}]}
    (job.folder / "training.json").write_text(json.dumps(record), encoding="utf-8")


def add_rows(planner: Planner, rows: dict) -> dict:
    """Rows of a study that has these beside its own."""
    path = planner.scale.recipes / "losses" / "study.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(study | {"rows": study["rows"] | rows}, sort_keys=False), encoding="utf-8")
    return read_study("losses", planner.scale).rows
