"""What a study is: rows of a table, each a model and how it differs from its recipe, at one of the scales.

`recipes/scales.yaml` says for each scale which recipes there are, what is measured and how it is chosen;
`recipes/<study>/study.yaml` which rows a table has and which rows and columns of the paper they stand for.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from hub_cards.paper import TABLES
from run_scripts.recipe import read_recipe
from trainers.errors import InputError


RECIPES = Path(__file__).parent / "recipes"
TEACHER = "teacher"


@dataclass
class Student:
    """A recipe and what is changed of it; `lists` changes the recipe of the lists that it learns from."""

    recipe: str
    set: dict = field(default_factory=dict)
    lists: dict = field(default_factory=dict)


@dataclass
class Selection:
    """How each student's hyperparameters are chosen: `trials` of them, the one with the best dev `measure` wins."""

    measure: str
    trials: dict[str, list[dict]]  # student (or `default`) → settings to try

    def of(self, student: str) -> list[dict]:
        return self.trials.get(student, self.trials["default"])


@dataclass
class Scale:
    name: str
    recipes: Path  # the folder that the recipes' names are relative to
    about: str
    data: str  # what the recipes call the data
    flops: float  # floating-point operations a second that training reaches
    flops_basis: str
    teacher: str
    lists: str
    students: dict[str, Student]
    evaluations: dict[str, dict]
    documents: int  # of the collection, for the estimate of what searching it takes
    held_out: int | None = None  # training queries put aside as the dev split
    selection: Selection | None = None


@dataclass
class Row:
    """A line of the table. `paper_row` is the line of the paper's table that it stands for."""

    name: str
    model: str
    paper_row: str | None = None
    set: dict = field(default_factory=dict)
    lists: dict = field(default_factory=dict)


@dataclass
class Study:
    name: str
    title: str
    rows: dict[str, Row]
    columns: dict[str, str | None]  # "evaluation measure" → the paper's column
    table: str | None = None  # key of hub_cards.paper.TABLES
    baseline: str | None = None  # row that the others are tested against
    upper: str | None = None  # row at the other end of the gap
    diagnose: dict = field(default_factory=dict)

    def evaluations(self) -> list[str]:
        return list(dict.fromkeys(column.split()[0] for column in self.columns))


def study_names(recipes: Path) -> list[str]:
    return sorted(path.parent.name for path in recipes.glob("*/study.yaml"))


def read_scale(name: str, recipes: Path) -> Scale:
    """Raises InputError for an unknown scale, and for losses that would be tuned with unequal budgets."""
    scales = read_recipe(recipes / "scales.yaml")
    if name not in scales:
        raise InputError(f"--scale: expected one of {', '.join(scales)}, got {name!r}")
    values = dict(scales[name])
    values["students"] = {key: Student(**value) for key, value in values["students"].items()}
    if "selection" in values:
        values["selection"] = Selection(**values["selection"])
        budgets = {student: len(trials) for student, trials in values["selection"].trials.items()}
        if len(set(budgets.values())) > 1:
            raise InputError(f"scales.yaml: {name}: every loss needs as many trials as the others, got {budgets}")
    return Scale(name=name, recipes=recipes, **values)


def read_study(name: str, scale: Scale) -> Study:
    """The rows and columns that the study has at this scale.

    Raises InputError for an unknown study, and for names in it that do not exist.
    """
    if name not in (names := study_names(scale.recipes)):
        raise InputError(f"--study: expected some of {', '.join(names)}, got {name!r}")
    values = read_recipe(scale.recipes / name / "study.yaml")
    rows = {row: entry for row, entry in values.pop("rows").items() if scale.name in entry.pop("scales", [scale.name])}
    study = Study(name=name, rows={row: read_row(row, entry, scale) for row, entry in rows.items()}, **values)
    study.columns = {
        column: paper for column, paper in study.columns.items() if column.split()[0] in scale.evaluations
    }
    check(study, scale)
    return study


def read_row(name: str, entry: dict, scale: Scale) -> Row:
    """A row's entry, with what it says for this scale merged into what it says for all."""
    here = entry.get(scale.name, {})
    known = {field_.name for field_ in fields(Row)} - {"name"}
    values = {key: value for key, value in entry.items() if key in known}
    for part in ("set", "lists"):
        values[part] = merged(values.get(part, {}), here.get(part, {}))
    return Row(name, **{**values, "model": here.get("model", entry["model"])})


def check(study: Study, scale: Scale) -> None:
    where = f"{study.name}/study.yaml"
    for row in study.rows.values():
        if row.model != TEACHER and row.model not in scale.students:
            raise InputError(f"{where}: {row.name}: scale {scale.name} has no model {row.model!r}")
    table = TABLES.get(study.table) if study.table else None
    if study.table and table is None:
        raise InputError(f"{where}: the paper has no {study.table!r}; hub_cards/paper.py has {', '.join(TABLES)}")
    if table is None:
        return
    if wrong := [row.paper_row for row in study.rows.values() if row.paper_row and row.paper_row not in table.rows]:
        raise InputError(f"{where}: {study.table} has no row {wrong[0]!r}")
    if wrong := [column for column in study.columns.values() if column and column not in table.columns]:
        raise InputError(f"{where}: {study.table} has no column {wrong[0]!r}")


def merged(first: dict, second: dict) -> dict:
    """`first` with the values of `second`; mappings such as loss_args are merged, not replaced."""
    both = {
        key: {**first[key], **value} if isinstance(value, dict) and isinstance(first.get(key), dict) else value
        for key, value in second.items()
    }
    return first | both
