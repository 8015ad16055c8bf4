"""The schema that every reader ends in and every later step starts from.

A *collection* is what a benchmark is: documents, queries, judgments. *Ranking lists* are what a model is trained or
tested on: per query the documents it ranks, their labels and, once a teacher has scored them, its scores.
Ids are strings everywhere, also those that look like numbers.
"""

import json
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from datasets import Dataset, Features, List, Value

from m3se.trainers.data.documents import DocumentTable
from m3se.trainers.errors import InputError
from m3se.trainers.storage.arrow import save_dataset
from m3se.trainers.storage.atomic import complete_folder
from m3se.trainers.storage.checksums import refuse_damaged


ROW_FEATURES = Features(
    {
        "query_id": Value("string"),
        "query": Value("string"),
        "document_ids": List(Value("string")),
        "labels": List(Value("float32")),
    }
)
CANDIDATE_FEATURES = Features({"query_id": Value("string"), "document_ids": List(Value("string"))})
SCORED_CANDIDATE_FEATURES = Features({**CANDIDATE_FEATURES, "teacher_scores": List(Value("float32"))})
SCORED_ROW_FEATURES = Features({**ROW_FEATURES, "teacher_scores": List(Value("float32"))})
# Training rows also name the known positives that the list has no room for: no query may get one as a negative.
LEFT_OUT = {"positive_ids": List(Value("string"))}
TRAINING_ROW_FEATURES = Features({**ROW_FEATURES, **LEFT_OUT})
SCORED_TRAINING_ROW_FEATURES = Features({**SCORED_ROW_FEATURES, **LEFT_OUT})
SYNTHETIC = "synthetic-"  # the ids of queries that were made of the documents begin so


@dataclass
class Collection:
    """Documents, queries (id → text) and judgments (query id → document id → relevance, 0 or higher).

    `candidates` are the lists that some sources bring along (triples, runs, annotated lists), one row with
    `CANDIDATE_FEATURES` or `SCORED_CANDIDATE_FEATURES` per query, in the order of the source; others have None.
    `candidates_ranked` says that this order is best first. That of triples, top1000 and DPR's json is not, so that
    lists of these may not be cut.
    `report` counts what the reader found and dropped, by reason. `other_queries` are those of the source that were not
    read, such as the queries of its other splits.
    """

    name: str
    documents: DocumentTable
    queries: dict[str, str]
    qrels: dict[str, dict[str, float]]
    report: dict = field(default_factory=dict)
    candidates: Dataset | None = None
    candidates_ranked: bool = True
    other_queries: dict[str, str] = field(default_factory=dict)

    def only(self, queries: Container[str]) -> "Collection":
        """Return the collection with those of its queries whose ids are in `queries`, in their order."""
        return replace(self, queries={query: text for query, text in self.queries.items() if query in queries})


@dataclass
class RankingLists:
    """Rows with `ROW_FEATURES` (or `SCORED_ROW_FEATURES`; the lists of a row are of one length, rows may differ)
    and the table that holds the texts of their `document_ids`. `report` counts kept and dropped rows, by reason."""

    rows: Dataset
    documents: DocumentTable
    report: dict = field(default_factory=dict)

    def first(self, count: int | None) -> "RankingLists":
        """Return the lists of `count` queries, labelled ones before the others, by hash of their id; all for None."""
        if count is None:
            return self
        return self.only(hash_subset(self.rows["query_id"][:], count, first=self.labelled()))

    def only(self, queries: Container[str]) -> "RankingLists":
        """Return the lists of those queries whose ids are in `queries`, in their order."""
        names = self.rows["query_id"][:]
        return replace(self, rows=self.rows.select([row for row, name in enumerate(names) if name in queries]))

    def labelled(self) -> set[str]:
        """Return the queries of people with a document that is labelled relevant in their list."""
        rows = zip(self.rows["query_id"][:], self.rows["labels"][:], strict=True)
        return {query for query, labels in rows if any(labels) and not query.startswith(SYNTHETIC)}

    def save(self, folder: str | Path) -> None:
        """Write rows, documents and `data_report.json` to `folder`, which appears only when complete.

        Raises InputError when `folder` exists and holds something else.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and missing_part(folder))):
            raise InputError(f"{folder}: exists and does not hold ranking lists; not overwritten")
        with complete_folder(folder) as new:
            self.write_into(new)

    def write_into(self, folder: Path) -> None:
        """Write rows, documents and `data_report.json` into `folder`, whose owner makes it complete and sums it."""
        save_dataset(self.rows, folder / "rows.arrow")
        self.documents.write_into(folder / "documents")
        text = json.dumps(self.report, indent=2, ensure_ascii=False, sort_keys=True)
        (folder / "data_report.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "RankingLists":
        """Open lists written by `save`, memory-mapped. Raises InputError naming what is missing or damaged."""
        folder = Path(folder)
        if missing := missing_part(folder):
            raise InputError(f"{folder}: not a folder of ranking lists: {missing} is missing")
        refuse_damaged(folder, "make these lists again, as score_with_teacher.py did")
        rows = Dataset.from_file(str(folder / "rows.arrow"))
        if absent := set(ROW_FEATURES) - set(rows.column_names):
            raise InputError(f"{folder}: the rows lack the columns {', '.join(sorted(absent))}")
        report = json.loads((folder / "data_report.json").read_text(encoding="utf-8"))
        return cls(rows, DocumentTable.load(folder / "documents"), report)


def holds_lists(name: str | Path) -> bool:
    """Tell whether a name is a folder of ranking lists, and not a collection or a Hub id."""
    return missing_part(Path(name)) is None


def missing_part(folder: Path) -> str | None:
    """Name the first part of ranking lists that `folder` lacks; None when it lacks none."""
    parts = (".", "rows.arrow", "documents", "data_report.json")
    return next((part for part in parts if not (folder / part).exists()), None)


def positives(judged: dict[str, float]) -> list[str]:
    """Return ids of the documents judged relevant (above 0), the most relevant first, equal ones in qrels' order."""
    relevant = [document for document, label in judged.items() if label > 0]
    return sorted(relevant, key=judged.__getitem__, reverse=True)


def hash_subset(names: Iterable[str], count: int | None, skip: int = 0, first: Container[str] = ()) -> set[str]:
    """Select `count` names (None: all) after the first `skip` in the order of their hashes.

    The selection is the same on every machine. Names in `first` come before the others: a few queries with judgments
    stay whatever number of others stands beside them. Raises InputError for a negative number.
    """
    if min(count or 0, skip) < 0:
        raise InputError(f"expected a number of queries, 0 or more, got {min(count or 0, skip)}")
    ordered = sorted(names, key=lambda name: (name not in first, blake2b(name.encode(), digest_size=8).digest()))
    return set(ordered[skip:][:count])
