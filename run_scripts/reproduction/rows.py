"""Rows of a study: each a model and how it differs from its recipe, and the other rows that it needs."""

from dataclasses import dataclass, field, fields, replace

from m3se.trainers.errors import InputError


TEACHER, MEAN = "teacher", "mean"  # models of rows that are no students
BM25 = "BM25"
ROLES = ("scored_by", "starts_from")  # attributes of a row that name other rows


@dataclass
class Row:
    """A line of the table.

    Attributes:
        name: its label.
        family: the entry of study.yaml that it comes from; one with `each` makes several rows.
        model: a student of the scale, or the teacher.
        paper_row: the line of the paper's table that it stands for.
        set: how its training differs from the recipe.
        lists: how the lists that a student learns from differ from theirs.
        teacher: how the teacher that scores these lists differs.
        scored_by: the row whose student scores these lists in the teacher's place; in study.yaml its name.
        starts_from: the row whose student this one goes on from, in the encoder's place; in study.yaml its name.
        mean_of: of model `mean`, the weights of the rows whose scores it averages, and of BM25 if it takes part.
        members: these rows.
    """

    name: str
    family: str
    model: str
    paper_row: str | None = None
    set: dict = field(default_factory=dict)
    lists: dict = field(default_factory=dict)
    teacher: dict = field(default_factory=dict)
    scored_by: "Row | str | None" = None
    starts_from: "Row | str | None" = None
    mean_of: dict[str, float] = field(default_factory=dict)
    members: list["Row"] = field(default_factory=list)


def read_rows(label: str, entry: dict, scale: str) -> list[Row]:
    """Make the rows of an entry: none where its `scales` leave this one out, and one for each value of `each`.

    The part of an entry under the scale's name is merged into its part for all scales.
    """
    if scale not in entry.get("scales", [scale]):
        return []
    here = merged(entry, entry.get(scale, {}))
    names = {field_.name for field_ in fields(Row)}
    row = Row(label, label, **{key: value for key, value in here.items() if key in names})
    rows = []
    for value, changes in here.get("each", {}).items():
        paper_row = row.paper_row and row.paper_row.format(value)
        rows.append(replace(row, name=f"{label}, {value}", set=merged(row.set, changes), paper_row=paper_row))
    return rows or [row]


def resolve_names(rows: dict[str, Row], where: str) -> None:
    """Put the rows that a row is scored by or starts from in the place of their names.

    Raises InputError where there is no such student, or a student would need itself, directly or through a third.
    """
    for row in rows.values():
        for role in ROLES:
            name = getattr(row, role)
            named = rows.get(name)
            refused = (TEACHER,) if role == "scored_by" else (TEACHER, MEAN)
            if name is not None and (named is None or named.model in refused):
                raise InputError(f"{where}: {row.name}: {role}: expected the row of a student, got {name!r}")
            setattr(row, role, named)
        row.members = resolve_members(row, rows, where)
    for row in rows.values():
        if row.name in needed_by(row, set()):
            raise InputError(f"{where}: {row.name}: {' or '.join(ROLES)}: leads back to itself")


def resolve_members(row: Row, rows: dict[str, Row], where: str) -> list[Row]:
    """Return the rows that a row is the mean of; none where it is no mean.

    Raises InputError for a mean of nothing, a row with weights that is no mean, and members that are no models.
    """
    if (row.model == MEAN) != bool(row.mean_of):
        raise InputError(f"{where}: {row.name}: mean_of: goes with model {MEAN}, and that with mean_of")
    members = [name for name in row.mean_of if name != BM25]
    for name in members:
        if name not in rows or rows[name].model == MEAN:
            raise InputError(f"{where}: {row.name}: mean_of: expected rows of models and {BM25}, got {name!r}")
    return [rows[name] for name in members]


def needed_by(row: Row, known: set[str]) -> set[str]:
    """Add to `known` the names of the rows that a row needs, directly or through a third; return it."""
    for named in (row.scored_by, row.starts_from, *row.members):
        if named is not None and named.name not in known:
            known.add(named.name)
            needed_by(named, known)
    return known


def merged(first: dict, second: dict) -> dict:
    """Put the values of `second` into a copy of `first`; mappings in them, such as loss_args, are merged too."""
    result = dict(first)
    for key, value in second.items():
        both_mappings = isinstance(value, dict) and isinstance(first.get(key), dict)
        result[key] = merged(first[key], value) if both_mappings else value
    return result
