"""results.json and report.md of a study: our table beside the paper's, how settings were chosen, what is missing."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from m3se.hub_cards.paper import TABLES
from m3se.hub_cards.plots import comparison
from m3se.run_scripts.reproduction.plan import TRANSFER, Planner
from m3se.run_scripts.reproduction.predictions import prediction_table
from m3se.run_scripts.reproduction.results import collect, share
from m3se.run_scripts.reproduction.study import Study
from m3se.run_scripts.reproduction.teaching import describe_room, list_table
from m3se.trainers.evaluation.markdown import NONE, p_value, table
from m3se.trainers.evaluation.significance import PERMUTATIONS
from m3se.trainers.storage.atomic import write_json, write_text


COMPARISON = "comparison.png"
PICTURE = re.compile(r"\]\((\w+\.png)\)")


def write_report(study: Study, planner: Planner, seeds: list[int]) -> str:
    """Write the folder of a study with what is done so far; returns the report."""
    folder = planner.output / study.name
    folder.mkdir(parents=True, exist_ok=True)
    results = collect(study, planner, seeds)
    figures = [*compared(results, study, folder), *diagnosed(study, planner, seeds[0], folder)]
    write_json(folder / "results.json", results)
    text = "\n\n".join(filter(None, sections(results, study, planner, figures))) + "\n"
    write_text(folder / "report.md", text)
    return text


def sections(results: dict, study: Study, planner: Planner, figures: list[str]) -> list[str]:
    """Write the parts of report.md as Markdown, empty where a study has nothing to say."""
    notes = TABLES[study.table].notes if study.table else ()
    return [
        f"# {study.title}",
        f"{results['data']}, scale {results['scale']}: {planner.scale.about}. Seeds {results['seeds']}.",
        main_table(results, study),
        caption(results),
        describe_room(results["room"]) if results["room"] else "",
        prediction_table(results),
        closing(results, study),
        gaps(results),
        list_table(results),
        transfer(results),
        chosen(results, study, planner),
        bullets("The paper's own inconsistencies", notes),
        diagnoses(results),
        *figures,
        bullets("Not run yet", results["missing"]),
    ]


def bullets(title: str, lines: Sequence[str]) -> str:
    """Write a section that is a list; empty when nothing is in it."""
    return "\n".join([f"## {title}", "", *map("* {}".format, lines)]) if lines else ""


def main_table(results: dict, study: Study) -> str:
    """Write a table of ours and the paper's values, column by column."""
    measured = set()
    for row in results["rows"].values():
        measured |= row["values"].keys()
    columns = [name for name in study.columns if name in measured]
    header = ["model", "seeds"]
    for column in columns:
        header += [column, *(["p"] if study.baseline else []), *(["paper"] if study.columns[column] else [])]
    rows = []
    for name, row in results["rows"].items():
        counts = {len(value["seeds"]) for value in row["values"].values()} or {0}
        cells = [name, str(max(counts)) if max(counts) else NONE]
        for column in columns:
            value = row["values"].get(column)
            cells += [cell(value), *([p_value(value and value["p_value"])] if study.baseline else [])]
            if study.columns[column]:
                cells.append(number(results["paper"].get(row["paper_row"], {}).get(column)))
        rows.append(cells)
    return table(header, rows)


def cell(value: dict | None) -> str:
    """Write mean, deviation and interval."""
    if value is None:
        return NONE
    low, high = value["interval_95"]
    spread = "" if value["sd"] is None else f" ± {value['sd']:.4f}"
    return f"{value['mean']:.4f}{spread} [{low:.3f}, {high:.3f}]"


def number(value: float | None) -> str:
    """Write a value of the paper's."""
    return NONE if value is None else f"{value:.3f}"


def caption(results: dict) -> str:
    """Explain the numbers of the main table, and name the data they were measured on."""
    lines = ["Mean ± standard deviation over seeds, in brackets the 95% bootstrap interval over queries."]
    if results["baseline"]:
        lines.append(
            f"p: paired randomisation test of each query's mean over seeds against {results['baseline']}, two-sided, "
            f"{PERMUTATIONS:,} permutations, Holm-corrected per column."
        )
    for name, on in results["measured_on"].items():
        recall = (
            f", which hold {on['candidate_recall']:.1%} of the relevant ones" if on.get("candidate_recall") else ""
        )
        lines.append(f"{name}: {on['queries']:,} queries of {on['data']} {on['split']}, {on['candidates']}{recall}.")
    return " ".join(lines)


def closing(results: dict, study: Study) -> str:
    """Write the share of the gap between baseline and upper row that each other row closes, ours and the paper's."""
    upper, baseline = results["upper"], results["baseline"]
    if not upper:
        return ""
    rows, closing_columns = {}, set()
    for name, row in results["rows"].items():
        columns = {column for column, value in row["values"].items() if is_closing(value)}
        closing_columns |= columns
        if columns:
            rows[name] = [name]
    header = ["model"]
    for column in study.columns:
        if column not in closing_columns:
            continue
        header += [column, "paper"]
        for name, cells in rows.items():
            value = results["rows"][name]["values"].get(column)
            cells += [closed(value), percent(paper_share(results, name, column))]
    title = f"## Share of the gap between {baseline} and {upper} that is closed"
    return f"{title}\n\n{table(header, list(rows.values())) if rows else 'Not measured, or there is no gap.'}"


def is_closing(value: dict | None) -> bool:
    """Decide whether a row's value has a share of the gap."""
    return value is not None and "gap_closed" in value


def closed(value: dict | None) -> str:
    """Write a share of the gap with its interval."""
    if not is_closing(value):
        return NONE
    interval = value["gap_closed_95"]
    return percent(value["gap_closed"]) + (f" [{interval[0]:.0%}, {interval[1]:.0%}]" if interval else "")


def paper_share(results: dict, name: str, column: str) -> float | None:
    """Compute the share that the paper's row closes; None where it does not say."""
    values = []
    for row in (name, results["baseline"], results["upper"]):
        values.append(results["paper"].get(results["rows"][row]["paper_row"], {}).get(column))
    return None if None in values else share(*values)


def percent(value: float | None) -> str:
    """Write a share in whole percent."""
    return NONE if value is None else f"{value:.0%}"


def gaps(results: dict) -> str:
    """Write MRR on training queries minus MRR on test queries, both re-ranking BM25's candidates."""
    rows = []
    for name, row in results["rows"].items():
        if "train_minus_test" in row:
            train = row["values"]["train MRR@10"]["mean"]
            rows.append([name, f"{train:.4f}", f"{row['train_minus_test']:+.4f}"])
    title = "## Training and test queries"
    return f"{title}\n\n{table(['model', 'train MRR@10', 'train − test'], rows)}" if rows else ""


def transfer(results: dict) -> str:
    """Write a table of the same models on a collection that nothing was trained on."""
    mrr, ndcg = f"{TRANSFER} MRR@10", f"{TRANSFER} nDCG@10"
    rows = []
    for name, row in results["rows"].items():
        values = row["values"]
        if mrr in values:
            p_values = p_value(values[mrr]["p_value"]), p_value(values[ndcg]["p_value"])
            rows.append([name, cell(values[mrr]), p_values[0], cell(values[ndcg]), p_values[1]])
    return f"## On data not trained on\n\n{table(['model', mrr, 'p', ndcg, 'p'], rows)}" if rows else ""


def chosen(results: dict, study: Study, planner: Planner) -> str:
    """List every trial of the selection, and mark which won."""
    if not results["selection"]:
        return ""
    measure = planner.scale.selection.measure
    rows = []
    for student, trials in results["selection"].items():
        for trial in trials:
            value = NONE if trial["dev"] is None else f"{trial['dev']:.4f}"
            rows.append([student, json.dumps(trial["settings"]), value, "**chosen**" if trial["chosen"] else ""])
    text = (
        f"Of each student's trials the one with the best {measure} on {held_out(planner)} is used with every seed; "
        f"every loss had as many trials. Test queries had no part in it.{shared(study, planner)}"
    )
    return f"## Selection\n\n{text}\n\n{table(['student', 'settings', f'dev {measure}', ''], rows)}"


def held_out(planner: Planner) -> str:
    """Name the queries of the selection."""
    count = planner.scale.held_out
    return f"{count} training queries that were held out" if count else "dev queries"


def shared(study: Study, planner: Planner) -> str:
    """Say which students took the settings that another's trials chose, and what all trials had in common."""
    selection, sentences = planner.scale.selection, []
    for student in dict.fromkeys(row.model for row in study.rows.values()):
        tried = selection.tried(student)
        if tried != student:
            sentences.append(f" {student} takes what {tried}'s trials chose.")
    if selection.set:
        sentences.append(f" All trials had {json.dumps(selection.set)}.")
    return "".join(sentences)


def diagnoses(results: dict) -> str:
    """Write what the diagnoses say of the models of several seeds; of one alone the figures say it."""
    models, seeds, rows = {}, 0, []
    for by_model in results["diagnosis"].values():
        models |= dict.fromkeys(by_model)
        for value in by_model.values():
            seeds = max(seeds, len(value["seeds"]))
    if seeds < 2:
        return ""
    for figure, by_model in results["diagnosis"].items():
        rows.append([figure.replace("_", " "), *map(spread, map(by_model.get, models))])
    text = f"Mean ± standard deviation over seeds. The figures below are of seed {results['seeds'][0]}."
    return f"## Diagnosis\n\n{text}\n\n{table(['', *models], rows)}"


def spread(value: dict | None) -> str:
    """Write mean and deviation."""
    if value is None:
        return NONE
    return f"{value['mean']:.3f}" + ("" if value["sd"] is None else f" ± {value['sd']:.3f}")


def compared(results: dict, study: Study, folder: Path) -> list[str]:
    """Draw the first column, with the shares of the gap where the study has one."""
    column = next(iter(study.columns))
    values, shares = {}, {}
    for name, row in results["rows"].items():
        value = row["values"].get(column)
        if value is not None:
            values[name] = value["mean"], value["interval_95"]
        if is_closing(value):
            shares[name] = value["gap_closed"], value["gap_closed_95"], paper_share(results, name, column)
    if not values:
        return []
    title = f"{study.title}, {results['data']}, {results['measured_on'][column.split()[0]]['queries']:,} queries"
    figure = comparison(values, shares, column, f"gap closed, from {results['baseline']} to {results['upper']}", title)
    figure.savefig(folder / COMPARISON, metadata={"Software": None})
    return [f"## {column}\n\n![{title}]({COMPARISON})"]


def diagnosed(study: Study, planner: Planner, seed: int, folder: Path) -> list[str]:
    """Return the sections of the study's diagnosis that it asks for (all by default); copy their pictures."""
    diagnosis = planner.diagnosis(study, seed, seed)
    if diagnosis is None or not diagnosis.done:
        return []
    page = (diagnosis.folder / "diagnostics.md").read_text(encoding="utf-8")
    wanted = study.diagnose.get("sections")
    selected = []
    for section in page.split("\n## ")[1:]:
        if wanted is None or section.splitlines()[0] in wanted:
            selected.append("## " + section.strip())
    for picture in PICTURE.findall("\n".join(selected)):
        shutil.copy(diagnosis.folder / picture, folder / picture)
    return selected
