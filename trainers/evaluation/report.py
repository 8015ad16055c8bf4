"""The files of an evaluation: a run, its numbers, each query's numbers, and one table over all systems."""

import json
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from m3se.trainers.evaluation.markdown import NONE, escaped, p_value, table
from m3se.trainers.evaluation.run_metrics import Evaluation, is_binary, parse_measures
from m3se.trainers.evaluation.runs import Run, write_run
from m3se.trainers.evaluation.significance import PERMUTATIONS, Comparison
from m3se.trainers.storage.atomic import write_text


@dataclass
class System:
    """One row of the table: the measurements of one ranker.

    `facts` are further entries of its metrics.json. `documents_per_second` among them counts scored pairs of a query
    and a document, everything included.
    """

    name: str
    source: str
    run: Run
    evaluation: Evaluation
    facts: dict = field(default_factory=dict)


def write_system(folder: Path, system: System, setting: dict, comparison: Comparison) -> None:
    """Write `run.trec`, `per_query.jsonl` and, last, `metrics.json` (values, then what they were measured on)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    write_run(folder / "run.trec", system.run, tag="-".join(system.name.split()) or "run")
    lines = []
    for query, values in system.evaluation.per_query.items():
        lines.append(json.dumps({"query_id": query, **values}, ensure_ascii=False) + "\n")
    write_text(folder / "per_query.jsonl", "".join(lines))
    content = json.dumps(metrics(system, setting, comparison), indent=2, ensure_ascii=False)
    write_text(folder / "metrics.json", content + "\n")


def metrics(system: System, setting: dict, comparison: Comparison) -> dict:
    """Return the content of metrics.json; the measures among its entries are those that have an interval."""
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


def markdown_table(
    systems: list[System], setting: dict, comparison: Comparison, columns: list[str] | None = None
) -> str:
    """Return one row per system: 95% intervals, p-values, candidate recall and speed where known; the setting below.

    `columns` are the measures to show. By default recall is left out of re-ranking, where that of the candidates says
    more.
    """
    if columns is None:
        measured = systems[0].evaluation.values
        columns = [name for name in measured if "candidate_recall" not in setting or not name.startswith("Recall")]
    rows = [make_row(system, columns, setting, comparison) for system in systems]
    blank = dict.fromkeys(chain.from_iterable(rows), NONE)
    lines = table(list(blank), [list((blank | row).values()) for row in rows])
    return f"{lines}\n\n{caption(systems, setting, comparison)}\n"


def make_row(system: System, columns: list[str], setting: dict, comparison: Comparison) -> dict[str, str]:
    """Return column → cell of one system."""
    row = {"model": escaped(system.name)}
    for measure in columns:
        low, high = comparison.intervals[system.name][measure]
        row[escaped(measure)] = f"{system.evaluation.values[measure]:.4f} [{low:.3f}, {high:.3f}]"
    for measure in columns if comparison.p_values else ():
        row[f"p {escaped(measure)}"] = p_value(comparison.p_values.get(system.name, {}).get(measure))
    if setting.get("candidate_recall") is not None:
        row["candidate recall"] = f"{setting['candidate_recall']:.4f}"
    if "documents_per_second" in system.facts:
        row["documents/s"] = f"{system.facts['documents_per_second']:,.0f}"
    if "index_recall" in system.facts:
        row[f"recall of {escaped(system.facts['index'])}"] = f"{system.facts['index_recall']:.4f}"
    return row


def caption(systems: list[System], setting: dict, comparison: Comparison) -> str:
    """Say what the numbers were measured on, and by which conventions."""
    evaluation = systems[0].evaluation
    ties = []
    for system in systems:
        if system.evaluation.ties:
            ties.append(f"{system.evaluation.ties:,} ({escaped(system.name)})")
    verb = "re-ranking" if "candidate_recall" in setting else "searching"
    split = "" if setting["split"] is None else f", {escaped(setting['split'])}"
    lines = [
        f"{escaped(setting['data'])}{split}: {evaluation.queries:,} queries, {verb} {escaped(setting['candidates'])}.",
        grades(evaluation),
        "Every query counts, also where no relevant document was found.",
        f"Ties are broken against the model; tied documents: {', '.join(ties) or 'none'}.",
        "In brackets: 95% bootstrap interval over queries.",
    ]
    if left_out := setting.get("identical_ids_left_out"):
        lines.insert(1, f"As in BEIR, a query is no answer to itself: {left_out:,} documents with its id left out.")
    if comparison.p_values:
        lines.append(
            f"p: paired randomisation test against {escaped(comparison.against)}, two-sided, {PERMUTATIONS:,} "
            f"permutations, Holm-corrected over {len(comparison.p_values)} row{'s' * (len(comparison.p_values) > 1)}."
        )
    return " ".join(lines)


def grades(evaluation: Evaluation) -> str:
    """Say which measures count documents from which grade, and which use the grades as they are."""
    binary, graded, special = [], [], []
    for measure, name in parse_measures(list(evaluation.values)).items():
        if name.startswith("nDCG"):
            graded.append(name)
        elif not is_binary(measure):
            special.append(name)
        elif "(rel=" not in name:
            binary.append(name)
    level = evaluation.relevance_level
    parts = [f"{escaped(', '.join(binary))}: relevant from grade {level} ({deep_learning(level)})"] if binary else []
    if graded:
        parts.append("nDCG: graded, linear gain")
    if special:
        parts.append(f"{escaped(', '.join(special))}: as ir_measures defines it")
    return f"{'; '.join(parts)}." if parts else ""


def deep_learning(relevance_level: int) -> str:
    """Compare this level with the convention of the TREC Deep Learning tracks."""
    return "as TREC Deep Learning counts" if relevance_level == 2 else "TREC Deep Learning counts from 2"
