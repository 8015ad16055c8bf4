"""The folder that diagnose.py writes: pictures and tables, the data of each beside it, and a page with all of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from m3se.trainers.evaluation.markdown import escaped
from m3se.trainers.storage.atomic import complete_file, write_text


class Report:
    """Collects sections; `write` puts diagnostics.md and summary.json into the folder when all of them are there.

    `splits` says what the data set calls the queries that stand for dev and train.
    """

    def __init__(self, folder: Path, data: str, models: list[str], splits: Mapping[str, str]):
        self.folder = folder
        self.data = data
        self.models = models
        self.splits = splits
        self.sections: list[str] = []
        self.summary: dict = {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "diagnostics.md").unlink(missing_ok=True)

    def title(self, subject: str, split: str, queries: int, models: list[str] | None = None) -> str:
        """Return a picture's title: its subject, data set, number of queries and models."""
        data = f"{self.data} {self.splits.get(split, split)}, {queries:,} queries"
        return f"{subject} · {data} · {', '.join(models or self.models)}"

    def picture(self, name: str, heading: str, text: str, figure: Figure, columns: Mapping) -> None:
        """Add a section with a picture, and write the data that it was drawn from.

        Args:
            name: of the files, `NAME.png` and `NAME.parquet`.
            heading: of the section.
            text: above the picture.
            figure: the picture.
            columns: the data, of one length.
        """
        self.table(name, columns)
        with complete_file(self.folder / f"{name}.png") as path:
            figure.savefig(path, format="png")
        self.sections.append(f"## {heading}\n\n{text}\n\n![{heading}]({name}.png)\n")

    def text(self, heading: str, text: str) -> None:
        """Add a section of text alone."""
        self.sections.append(f"## {heading}\n\n{text}\n")

    def table(self, name: str, columns: Mapping) -> None:
        """Write `NAME.parquet` with these columns of one length."""
        table = pa.table({key: pa.array(np.asarray(values)) for key, values in columns.items()})
        with complete_file(self.folder / f"{name}.parquet") as path:
            pq.write_table(table, path)

    def write(self) -> Path:
        """Write summary.json and the page with all sections; return the page's path."""
        write_text(self.folder / "summary.json", json.dumps(self.summary, indent=2, ensure_ascii=False) + "\n")
        page = f"# {', '.join(self.models)} on {escaped(self.data)}\n\n" + "\n".join(self.sections)
        write_text(self.folder / "diagnostics.md", page)
        return self.folder / "diagnostics.md"
