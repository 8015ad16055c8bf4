"""What an evaluation leaves behind: a run, its numbers, each query's numbers, and one table over all systems."""

import json
from dataclasses import dataclass
from pathlib import Path

from trainers.evaluation.files import write_text
from trainers.evaluation.measures import Evaluation
from trainers.evaluation.runs import Run, write_run


@dataclass
class System:
    """One row of the table: what was measured of one ranker. `documents_per_second` counts scored pairs of a query
    and a document, with everything that scoring them took; None where nothing was scored."""

    name: str
    source: str
    run: Run
    evaluation: Evaluation
    documents_per_second: float | None = None


def write_system(folder: Path, system: System, setting: dict) -> None:
    """`run.trec`, `per_query.jsonl` and, written last, `metrics.json` (values, then what they were measured on)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    write_run(folder / "run.trec", system.run, tag=folder.name)
    per_query = [{"query_id": query, **values} for query, values in system.evaluation.per_query.items()]
    write_text(folder / "per_query.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in per_query))
    write_text(folder / "metrics.json", json.dumps(metrics(system, setting), indent=2, ensure_ascii=False) + "\n")


def metrics(system: System, setting: dict) -> dict:
    """The content of metrics.json."""
    evaluation = system.evaluation
    counts = {"queries": evaluation.queries, "ties": evaluation.ties, "relevance_level": evaluation.relevance_level}
    speed = system.documents_per_second
    return {
        **evaluation.values,
        **counts,
        "documents_per_second": None if speed is None else round(speed, 1),
        "name": system.name,
        "model": system.source,
        **setting,
    }


def markdown_table(systems: list[System], columns: list[str], setting: dict) -> str:
    """One row per system with `columns` (measures), candidate recall where known, and speed; the setting below."""
    recall = setting.get("candidate_recall")
    header = ["model", *columns, *(["candidate recall"] if recall is not None else []), "documents/s"]
    lines = [" | ".join(header), " | ".join(["---", *["---:"] * (len(header) - 1)])]
    for system in systems:
        cells = [system.name, *(f"{system.evaluation.values[name]:.4f}" for name in columns)]
        cells += [f"{recall:.4f}"] if recall is not None else []
        speed = system.documents_per_second
        lines.append(" | ".join([*cells, "–" if speed is None else f"{speed:,.0f}"]))
    return "\n".join(f"| {line} |" for line in lines) + f"\n\n{caption(systems, setting)}\n"


def caption(systems: list[System], setting: dict) -> str:
    """What the numbers were measured on, and by which conventions."""
    evaluation = systems[0].evaluation
    ties = {system.name: system.evaluation.ties for system in systems if system.evaluation.ties}
    tied = ", ".join(f"{count:,} ({name})" for name, count in ties.items()) or "none"
    binary = ", ".join(name for name in evaluation.values if not name.startswith("nDCG"))
    return (
        f"{setting['data']}, {setting['split']}: {evaluation.queries:,} queries, {setting['candidates']}. "
        f"{binary}: relevant from grade {evaluation.relevance_level}; nDCG: graded. Every query counts, also where no "
        f"relevant document was found. Ties are broken against the model; tied documents: {tied}."
    )
