"""What an evaluation leaves behind: a run, its numbers, each query's numbers, and one table over all systems."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from m3se.trainers.evaluation.markdown import escaped
from m3se.trainers.evaluation.run_metrics import Evaluation
from m3se.trainers.evaluation.runs import Run, write_run
from m3se.trainers.evaluation.significance import PERMUTATIONS, Comparison
from m3se.trainers.storage.atomic import write_text


COLUMNS = ("MRR@10", "nDCG@10")


@dataclass
class System:
    """One row of the table: what was measured of one ranker. `facts` are further entries of its metrics.json;
    `documents_per_second` among them counts scored pairs of a query and a document, everything included."""

    name: str
    source: str
    run: Run
    evaluation: Evaluation
    facts: dict = field(default_factory=dict)


def write_system(folder: Path, system: System, setting: dict, comparison: Comparison) -> None:
    """`run.trec`, `per_query.jsonl` and, written last, `metrics.json` (values, then what they were measured on)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    write_run(folder / "run.trec", system.run, tag="-".join(system.name.split()) or "run")
    per_query = [{"query_id": query, **values} for query, values in system.evaluation.per_query.items()]
    write_text(folder / "per_query.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in per_query))
    content = json.dumps(metrics(system, setting, comparison), indent=2, ensure_ascii=False)
    write_text(folder / "metrics.json", content + "\n")


def metrics(system: System, setting: dict, comparison: Comparison) -> dict:
    """The content of metrics.json."""
    evaluation = system.evaluation
    values = {
        **evaluation.values,
        "queries": evaluation.queries,
        "ties": evaluation.ties,
        "relevance_level": evaluation.relevance_level,
        **system.facts,
        "name": system.name,
        "model": system.source,
        **setting,
        "intervals_95": comparison.intervals[system.name],
    }
    if system.name in comparison.p_values:
        values["p_values"] = {"against": comparison.against, **comparison.p_values[system.name]}
    return values


def markdown_table(systems: list[System], setting: dict, comparison: Comparison) -> str:
    """One row per system: 95% intervals, p-values, candidate recall and speed where known; the setting below."""
    columns = list(COLUMNS) if "candidate_recall" in setting else list(systems[0].evaluation.values)
    rows = [make_row(system, columns, setting, comparison) for system in systems]
    header = [name for name in dict.fromkeys(name for row in rows for name in row)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    lines += [[row.get(name, "–") for name in header] for row in rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{caption(systems, setting, comparison)}\n"


def make_row(system: System, columns: list[str], setting: dict, comparison: Comparison) -> dict[str, str]:
    """Column → cell of one system."""
    row = {"model": escaped(system.name)}
    for measure in columns:
        low, high = comparison.intervals[system.name][measure]
        row[measure] = f"{system.evaluation.values[measure]:.4f} [{low:.3f}, {high:.3f}]"
    for measure in columns if comparison.p_values else ():
        p_value = comparison.p_values.get(system.name, {}).get(measure)
        row[f"p {measure}"] = "–" if p_value is None else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
    if setting.get("candidate_recall") is not None:
        row["candidate recall"] = f"{setting['candidate_recall']:.4f}"
    if "documents_per_second" in system.facts:
        row["documents/s"] = f"{system.facts['documents_per_second']:,.0f}"
    if "index_recall" in system.facts:
        row[f"recall of {escaped(system.facts['index'])}"] = f"{system.facts['index_recall']:.4f}"
    return row


def caption(systems: list[System], setting: dict, comparison: Comparison) -> str:
    """What the numbers were measured on, and by which conventions."""
    evaluation = systems[0].evaluation
    ties = {system.name: system.evaluation.ties for system in systems if system.evaluation.ties}
    tied = ", ".join(f"{count:,} ({escaped(name)})" for name, count in ties.items()) or "none"
    binary = ", ".join(name for name in evaluation.values if not name.startswith("nDCG"))
    verb = "re-ranking" if "candidate_recall" in setting else "searching"
    of = ", ".join(escaped(setting[name]) for name in ("data", "split") if setting[name] is not None)
    lines = [
        f"{of}: {evaluation.queries:,} queries, {verb} {escaped(setting['candidates'])}.",
        f"{binary}: relevant from grade {evaluation.relevance_level} ({deep_learning(evaluation.relevance_level)}); "
        "nDCG: graded, linear gain.",
        "Every query counts, also where no relevant document was found.",
        f"Ties are broken against the model; tied documents: {tied}.",
        "In brackets: 95% bootstrap interval over queries.",
    ]
    if comparison.p_values:
        lines.append(
            f"p: paired randomisation test against {escaped(comparison.against)}, two-sided, {PERMUTATIONS:,} "
            f"permutations, Holm-corrected over {len(comparison.p_values)} row{'s' * (len(comparison.p_values) > 1)}."
        )
    return " ".join(lines)


def deep_learning(relevance_level: int) -> str:
    """How this level stands to the convention of the TREC Deep Learning tracks."""
    return "as TREC Deep Learning counts" if relevance_level == 2 else "TREC Deep Learning counts from 2"
