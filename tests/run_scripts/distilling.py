"""distill.py in this process, on a tiny encoder and a few ranking lists."""

import json
import shutil
from pathlib import Path

from m3se.run_scripts import distill
from m3se.run_scripts.cli.app import parse
from tests.worlds import tiny
from tests.worlds.small_world import write_encoder


def write_world(root: Path) -> Path:
    """A folder of ranking lists, and one of an encoder."""
    tiny.ranking_lists(queries=16).save(root / "lists")
    write_encoder(root / "encoder")
    return root


def flags(world: Path, output: Path, **options) -> list[str]:
    options = {
        "data": world / "lists",
        "encoder": world / "encoder",
        "layers": 1,
        "query_length": 8,
        "document_length": 16,
        "dev_queries": 0,
        "train_sample_size": 0,
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "precision": "fp32",
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": output,
    } | options
    return [part for name, value in options.items() for part in (f"--{name}", *map(str, as_list(value)))]


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def distilled(world: Path, output: Path, **options) -> Path:
    distill.main(*parse(distill.make_parser(), flags(world, output, **options)))
    return output


def dense_model(world: Path, folder: Path, pooling: str) -> Path:
    """The encoder as a sentence-transformers model that pools by `pooling`."""
    shutil.copytree(world / "encoder", folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}), encoding="utf-8")
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return folder
