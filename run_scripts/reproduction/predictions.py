"""What a study predicted before it was run, beside what came out."""

from collections.abc import Iterable

import numpy as np

from m3se.run_scripts.reproduction.study import Prediction, Study
from m3se.trainers.evaluation.markdown import NONE, p_value, table
from m3se.trainers.evaluation.run_metrics import Evaluation
from m3se.trainers.evaluation.significance import bootstrap_interval, holm, randomisation_test


LEVEL = 0.05
HELD, OPPOSITE, OPEN, NOT_RUN = "held", "the opposite", "not told apart", "not run"


def outcomes(study: Study, evaluations: dict[str, Evaluation]) -> list[dict]:
    """Compare each prediction with what its rows measured in the column that it is about.

    Args:
        study: with its predictions.
        evaluations: row → its values of every query, where it has been measured.

    Returns:
        The text of each prediction, the rows above and below, and the outcome. Where all rows are measured, also
        `value` (the sum of the rows above minus that of the rows below, a mean over queries), its `interval_95`, and
        the two-sided `p_value` of a paired randomisation test, Holm-corrected over the predictions of the study.
    """
    measure = study.predicted_column().split(maxsplit=1)[1]
    described, values, p_values = [], [], []
    for prediction in study.predictions:
        described.append({"text": prediction.text, "above": prediction.above, "below": prediction.below})
        if evaluations.keys() >= {*prediction.above, *prediction.below}:
            values.append(contrast(prediction, evaluations, measure))
            p_values.append(randomisation_test(values[-1], np.zeros(len(values[-1]))))
            described[-1]["outcome"] = OPEN
        else:
            described[-1]["outcome"] = NOT_RUN
    tested = [entry for entry in described if entry["outcome"] != NOT_RUN]
    for entry, differences, corrected in zip(tested, values, holm(p_values), strict=True):
        value = float(differences.mean())
        entry |= {"value": value, "interval_95": bootstrap_interval(differences), "p_value": corrected}
        if corrected < LEVEL:
            entry["outcome"] = HELD if value > 0 else OPPOSITE
    return described


def contrast(prediction: Prediction, evaluations: dict[str, Evaluation], measure: str) -> np.ndarray:
    """Compute the sum of the rows above minus that of the rows below, for every query [n]."""
    queries = sorted(evaluations[prediction.above[0]].per_query)
    total = np.zeros(len(queries))
    for sign, rows in ((1, prediction.above), (-1, prediction.below)):
        for row in rows:
            per_query = evaluations[row].per_query
            total += sign * np.array([per_query[query][measure] for query in queries])
    return total


def prediction_table(results: dict) -> str:
    """Write each prediction beside its outcome; empty for a study without predictions."""
    if not results["predictions"]:
        return ""
    rows = []
    for entry in results["predictions"]:
        rows.append([entry["text"], named(entry["above"], entry["below"]), *measured(entry), entry["outcome"]])
    text = (
        f"Each was written down before the runs. A value is {results['predicted_column']} of the rows before the "
        "minus sign less that of those after it, with its 95% bootstrap interval over queries. p: paired "
        "randomisation test, two-sided, Holm-corrected over these lines. A prediction held where the value is above "
        f"zero at p < {LEVEL}."
    )
    header = ["predicted", "rows", "value", "p", "outcome"]
    return f"## Predicted, and what came out\n\n{text}\n\n{table(header, rows)}"


def named(above: Iterable[str], below: Iterable[str]) -> str:
    """Write which rows are compared: (a + b) − (c + d)."""
    sides = [f"({' + '.join(rows)})" for rows in (above, below)]
    return " − ".join(sides)


def measured(entry: dict) -> list[str]:
    """Write the value with its interval, and p; dashes where a row has not been run."""
    if "value" not in entry:
        return [NONE, NONE]
    low, high = entry["interval_95"]
    return [f"{entry['value']:+.4f} [{low:+.3f}, {high:+.3f}]", p_value(entry["p_value"])]
