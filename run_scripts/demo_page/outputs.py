"""The tables, pictures and largest disagreements of an output folder, read as plain text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from m3se.run_scripts.demo_page.opening import Encodings
from m3se.run_scripts.demo_page.rankings import Table
from m3se.trainers.data import DocumentTable, RankingLists
from m3se.trainers.diagnostics.disagreement import Pair, disagreeing_pairs
from m3se.trainers.diagnostics.scored_lists import scored_lists
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.embedded_collection import EmbeddedCollection
from m3se.trainers.retrieval.scorers import DenseScorer
from m3se.trainers.retrieval.search import encoded_scores


TABLE, REPORT, PAIRS = "table.md", "diagnostics.md", "disagreements.parquet"
SCORES = "calibration.parquet"  # of diagnose.py; its columns name the models, the teacher first
HELD_OUT = Path("scored") / "test"  # of make_retriever.py
PAIRS_SHOWN = 50
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+\.png)\)")
CELLS = re.compile(r"(?<!\\)\|")
ESCAPED = re.compile(r"\\([\\`*\[\]|])")


@dataclass(frozen=True)
class Output:
    """The contents of an output folder.

    Attributes:
        name: of the folder.
        notes: what table.md says beside its tables.
        tables: of table.md.
        pictures: title and file of each.
        low, high: the models that disagree: one scores a document low, the other high.
        pairs: their largest disagreements.
    """

    name: str
    notes: str
    tables: list[Table]
    pictures: list[tuple[str, Path]]
    low: str
    high: str
    pairs: list[Pair]


def check_output(folder: str) -> None:
    """Raise InputError for a folder that is none of make_retriever.py, evaluate.py or diagnose.py."""
    if not any((Path(folder) / name).exists() for name in (TABLE, REPORT, HELD_OUT)):
        raise InputError(f"--run: {folder} holds no {TABLE}, {REPORT} or {HELD_OUT}; expected an output folder")


def read_output(folder: str, documents: DocumentTable, encodings: Encodings) -> Output:
    """Read what a folder holds.

    The disagreements are those that diagnose.py wrote. Where make_retriever.py has left the teacher's scores of its
    test queries, they are between the teacher and the last of the models that embed.

    Args:
        folder: the output folder.
        documents: the collection of the page.
        encodings: the models of the page, with the collection as they embed it.

    Raises:
        InputError: a file is damaged, or the folder is about another collection.
    """
    path = Path(folder)
    tables, notes = read_tables(path / TABLE)
    low, high, pairs = "", "", []
    if (path / PAIRS).is_file():
        low, high, pairs = read_pairs(path)
    elif (path / HELD_OUT).is_dir() and encodings:
        low, high = "teacher", list(encodings)[-1]
        pairs = compute_pairs(path / HELD_OUT, documents, low, encodings[high], high)
    return Output(path.resolve().name, notes, tables, list(read_pictures(path)), low, high, pairs)


def read_tables(file: Path) -> tuple[list[Table], str]:
    """Read the tables of a page of Markdown, and its other lines; nothing where there is no such page."""
    tables: list[list[list[str]]] = []
    notes, was_table = [], False
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        is_table = line.startswith("|")
        if not is_table:
            notes.append(plain(line))
        elif not was_table:
            tables.append([])
        if is_table and not set(line) <= set("|-: "):
            tables[-1].append([plain(cell) for cell in CELLS.split(line)[1:-1]])
        was_table = is_table
    return [Table(header, rows) for header, *rows in tables], "\n".join(notes).strip()


def plain(text: str) -> str:
    """Undo what reports do to a text for Markdown."""
    return ESCAPED.sub(r"\1", text.strip().replace("**", "").replace("&lt;", "<"))


def read_pictures(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the title and the file of every picture: of the folder, and of the model in it."""
    report, titles = folder / REPORT, {}
    if report.is_file():
        for title, name in IMAGE.findall(report.read_text(encoding="utf-8")):
            titles[name] = title
    ordered = [folder / name for name in titles]
    untitled = sorted({*folder.glob("*.png"), *(folder / "model" / "images").glob("*.png")} - set(ordered))
    for file in [*filter(Path.is_file, ordered), *untitled]:
        yield titles.get(file.name, file.stem.replace("_", " ")), file


def read_pairs(folder: Path) -> tuple[str, str, list[Pair]]:
    """Read the names of two models and their disagreements, as diagnose.py wrote them."""
    try:
        pairs = [Pair(**row) for row in pq.read_table(folder / PAIRS).to_pylist()]
        columns = pq.read_schema(folder / SCORES).names if (folder / SCORES).is_file() else []
    except (OSError, TypeError, pa.ArrowInvalid) as error:
        raise InputError(f"{folder}: the disagreements cannot be read: {error}") from error
    names = [column.removeprefix("score ") for column in columns if column.startswith("score ")]
    low, high = names[:2] if len(names) > 1 else ("the teacher", "the student")
    return low, high, pairs


def compute_pairs(
    folder: Path, documents: DocumentTable, low: str, encoding: tuple[DenseScorer, EmbeddedCollection], high: str
) -> list[Pair]:
    """Find the documents that the teacher of some lists scores low and a model scores high.

    Args:
        folder: of the lists.
        documents: the collection of the page.
        low: the name of the teacher.
        encoding: the model, with the collection as it embeds it.
        high: the name of the model.
    """
    lists = RankingLists.load(folder)
    rows = lists.rows
    if "teacher_scores" not in rows.column_names:
        return []
    if lists.documents.fingerprint != documents.fingerprint:
        raise InputError(f"--run: {folder} is about other documents than --data")
    values = list(encoded_scores(*encoding, documents, rows))
    scored = scored_lists(lists, {low: rows["teacher_scores"][:], high: values})
    return disagreeing_pairs(scored, low, high, PAIRS_SHOWN)
