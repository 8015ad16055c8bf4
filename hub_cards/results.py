"""Results of a model on the Hub: rows of the card, its model-index, and `.eval_results` files.

`metrics` is the content of a metrics.json: measures, and what is needed to read them. Measures are spelled as the
field and ir_measures spell them (`MRR@10`, `nDCG@10`, `AP`, `P(rel=2)@5`), with a capital letter at least. All other
entries are words in small letters: `queries`, `ties` (documents that shared their score), `candidate_recall` (of the
list that was re-ranked; no re-ranking can do better).
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml


MEASURE = re.compile(r"(?P<family>\w*[A-Z]\w*)(\(.*\))?(@[\d.]+)?")


@dataclass
class Benchmark:
    """A data set that the Hub has registered as a benchmark, and the measure to report there."""

    dataset_id: str
    task_id: str
    measure: str


def parse_benchmark(text: str) -> Benchmark:
    """Split "org/dataset:task:measure" into its parts; raises ValueError."""
    parts = text.split(":")
    if len(parts) != 3 or not all(parts) or parts[0].count("/") != 1:
        raise ValueError(f"benchmark must be org/dataset:task:measure, got {text!r}")
    return Benchmark(*parts)


def measures(metrics: dict) -> dict[str, float]:
    """Return the measures among the values of a metrics.json, in its order.

    Raises:
        ValueError: there is none, or one is not a finite number.
    """
    values = {name: value for name, value in metrics.items() if MEASURE.fullmatch(name)}
    if not values:
        raise ValueError(f"metrics have no measure such as MRR@10, only {sorted(metrics)}")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    return values


def families(metrics: dict) -> list[str]:
    """Return the measures' names as the Hub lists them, without parameters and cutoff: ["mrr", "ndcg"]."""
    return sorted({MEASURE.fullmatch(name)["family"].lower() for name in measures(metrics)})


def model_index(metrics: dict, dataset: str, split: str | None = None) -> list[EvalResult]:
    """Make the entries of the card's model-index, one per measure."""
    return [
        EvalResult(
            task_type="text-ranking",
            task_name="Text Ranking",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=name.lower(),
            metric_name=name,
            metric_value=round(float(value), 6),
        )
        for name, value in measures(metrics).items()
    ]


def write_eval_results(folder: Path, metrics: dict, benchmark: Benchmark) -> Path:
    """Write `.eval_results/{benchmark}.yaml`, which the Hub shows beside the model and on the leaderboard.

    Raises:
        ValueError: the benchmark's measure was not measured.
    """
    values = measures(metrics)
    if benchmark.measure not in values:
        raise ValueError(f"{benchmark.dataset_id} asks for {benchmark.measure}, measured were only {sorted(values)}")
    setting = [f"{metrics[name]} {name}" for name in ("queries", "candidates", "ties") if name in metrics]
    entry = EvalResultEntry(
        dataset_id=benchmark.dataset_id,
        task_id=benchmark.task_id,
        value=round(float(values[benchmark.measure]), 6),
        notes=", ".join([benchmark.measure, *setting]),
    )
    path = folder / ".eval_results" / f"{benchmark.dataset_id.replace('/', '--')}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False), encoding="utf-8")
    return path
