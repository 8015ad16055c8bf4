"""Studies: rows of a table, each a model and how it differs from its recipe, at one of the scales.

`recipes/scales.yaml` says for each scale which recipes there are, what is measured and how it is chosen;
`recipes/<study>/study.yaml` which rows a table has and which rows and columns of the paper they stand for.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from m3se.hub_cards.paper import TABLES
from m3se.run_scripts.cli.recipe import read_recipe
from m3se.run_scripts.reproduction.rows import MEAN, TEACHER, Row, merged, read_rows, resolve_names
from m3se.trainers.errors import InputError


RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass
class Recipe:
    """A recipe and what is changed of it; `lists` changes, for a student, the recipe of what it learns from."""

    recipe: str
    set: dict = field(default_factory=dict)
    lists: dict = field(default_factory=dict)


@dataclass
class Selection:
    """The choice of each student's hyperparameters: of its `trials` the one with the best dev `measure` wins.

    Attributes:
        measure: what is compared on dev.
        trials: student (or `default`) → settings to try.
        shared: student → the student whose choice it takes, so that losses of one kind are selected once.
        set: changes of every trial, such as fewer lists; the chosen settings then hold for the whole training.
    """

    measure: str
    trials: dict[str, list[dict]]
    shared: dict[str, str] = field(default_factory=dict)
    set: dict = field(default_factory=dict)

    def tried(self, student: str) -> str:
        """Return the student whose trials choose for this one."""
        return self.shared.get(student, student)

    def settings(self, student: str) -> list[dict]:
        """Return the settings of each of a student's trials."""
        return self.trials.get(student, self.trials["default"])


@dataclass
class Scale:
    """The recipes, data and evaluations that the studies' names stand for."""

    name: str
    recipes: Path  # the folder that the recipes' names are relative to
    about: str
    data: str  # what the recipes call the data
    flops: float  # floating-point operations a second that training reaches
    flops_basis: str
    teacher: Recipe
    lists: Recipe
    students: dict[str, Recipe]
    evaluations: dict[str, dict]
    documents: int  # of the collection, for the estimate of what searching it takes
    test_queries: int | None = None  # of its test split, for the estimate of what measuring takes
    held_out: int | None = None  # training queries put aside as the dev split
    selection: Selection | None = None
    diagnosis: dict = field(default_factory=dict)  # options of diagnose.py
    room: float | None = None  # what the teacher should be above labels on dev, before losses are compared


@dataclass
class Prediction:
    """A sign that was written down before the runs: the rows `above`, added up, measure more than those `below`.

    With a row on either side it is a difference, with two a difference of differences.
    """

    text: str
    above: list[str]
    below: list[str]


@dataclass
class Study:
    """The rows and columns of a table, and which of the paper's they stand for."""

    name: str
    title: str
    rows: dict[str, Row]
    columns: dict[str, str | None]  # "evaluation measure" → the paper's column
    table: str | None = None  # key of hub_cards.paper.TABLES
    baseline: str | None = None  # row that the others are tested against
    labels: str | None = None  # row that the teacher should be above; None: the baseline
    upper: str | None = None  # row at the other end of the gap
    diagnose: dict = field(default_factory=dict)
    predictions: list[Prediction] = field(default_factory=list)
    outcome: str | None = None  # column that tells whether they held; None: the first

    def predicted_column(self) -> str:
        """Return the column that the predictions are about."""
        return self.outcome or next(iter(self.columns))

    def evaluations(self) -> list[str]:
        """List the evaluations that the columns are of."""
        return list(dict.fromkeys(map(evaluation_name, self.columns)))


def evaluation_name(column: str) -> str:
    """Return the evaluation of a column, whose name is "evaluation measure"."""
    return column.split()[0]


def study_names(recipes: Path) -> list[str]:
    """List the studies below a folder of recipes, such as `table1` and `open/lists`."""
    return sorted(path.parent.relative_to(recipes).as_posix() for path in recipes.rglob("study.yaml"))


def read_scale(name: str, recipes: Path) -> Scale:
    """Read a scale. Raises InputError for an unknown one, and for losses that would be tuned with unequal budgets."""
    scales = read_recipe(recipes / "scales.yaml")
    if name not in scales:
        raise InputError(f"--scale: expected one of {', '.join(scales)}, got {name!r}")
    values = dict(scales[name])
    values |= {"teacher": Recipe(**values["teacher"]), "lists": Recipe(**values["lists"])}
    values["students"] = dict(values["students"])
    for student, entry in values["students"].items():
        values["students"][student] = Recipe(**entry)
    if "selection" in values:
        values["selection"] = Selection(**values["selection"])
        trials = values["selection"].trials
        budgets = dict(zip(trials, map(len, trials.values()), strict=True))
        if len(set(budgets.values())) > 1:
            raise InputError(f"scales.yaml: {name}: every loss needs as many trials as the others, got {budgets}")
    return Scale(name=name, recipes=recipes, **values)


def read_study(name: str, scale: Scale) -> Study:
    """Read the rows and columns that the study has at this scale.

    Raises InputError for an unknown study, and for names in it that do not exist.
    """
    if name not in (names := study_names(scale.recipes)):
        raise InputError(f"--study: expected some of {', '.join(names)}, got {name!r}")
    entry = read_recipe(scale.recipes / name / "study.yaml")
    names = {field_.name for field_ in fields(Study)}
    values = {key: value for key, value in merged(entry, entry.get(scale.name, {})).items() if key in names}
    rows, columns = {}, {}
    for label, row_entry in values["rows"].items():
        for row in read_rows(label, {"scales": entry.get("scales", [scale.name])} | row_entry, scale.name):
            rows[row.name] = row
    resolve_names(rows, f"{name}/study.yaml")
    for column, paper_column in values["columns"].items():
        if evaluation_name(column) in scale.evaluations:
            columns[column] = paper_column
    predictions = predicted(values.get("predictions", []), rows)
    study = Study(name=name, **values | {"rows": rows, "columns": columns, "predictions": predictions})
    check(study, scale)
    return study


def predicted(entries: list[dict], rows: dict[str, Row]) -> list[Prediction]:
    """Return the predictions whose rows the study has at this scale."""
    predictions = []
    for entry in entries:
        prediction = Prediction(**entry)
        if rows.keys() >= {*prediction.above, *prediction.below}:
            predictions.append(prediction)
    return predictions


def check(study: Study, scale: Scale) -> None:
    """Raise InputError for rows, columns and models that the study names and nobody has."""
    where = f"{study.name}/study.yaml"
    if not study.rows:
        raise InputError(f"{where}: none of its rows is for scale {scale.name}")
    if not study.columns:
        raise InputError(f"{where}: scale {scale.name} measures nothing of it")
    if study.predicted_column() not in study.columns:
        raise InputError(f"{where}: outcome: scale {scale.name} has no column {study.outcome!r}")
    for name in (study.baseline, study.labels, study.upper):
        if name not in (None, *study.rows):
            raise InputError(f"{where}: at scale {scale.name} there is no row {name!r}")
    for row in study.rows.values():
        if row.model not in (TEACHER, MEAN, *scale.students):
            raise InputError(f"{where}: {row.name}: scale {scale.name} has no model {row.model!r}")
    table = TABLES.get(study.table) if study.table else None
    if study.table and table is None:
        raise InputError(f"{where}: the paper has no {study.table!r}; hub_cards/paper.py has {', '.join(TABLES)}")
    if table is None:
        return
    for row in study.rows.values():
        if row.paper_row and row.paper_row not in table.rows:
            raise InputError(f"{where}: {study.table} has no row {row.paper_row!r}")
    for column in study.columns.values():
        if column and column not in table.columns:
            raise InputError(f"{where}: {study.table} has no column {column!r}")
