"""Cases of sources that other libraries parse: folders laid out like Hub data sets, and `ir_datasets`."""

import io
import json
from pathlib import Path
from unittest import mock

import datasets
import ir_datasets
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from ir_datasets.formats import TrecScoredDocs, TsvDocPairs
from ir_datasets.util import LocalDownload

from m3se.trainers.data import read_data
from m3se.trainers.data.schema import Collection
from tests.reliability.programs.fuzz_files import DOCUMENTS, GRADES, QUERIES, changed_rows, damaged, file_of, plain


TEXTS = {
    "corpus": [{"_id": name, "title": "", "text": text} for name, text in DOCUMENTS.items()],
    "queries": [{"_id": name, "text": text} for name, text in QUERIES.items()],
}
JUDGMENTS = [{"query-id": query, "corpus-id": name, "score": int(grade)} for query, name, grade in GRADES]
TRIPLES = [("q0", "d0", "d1", 2.0), ("q0", "d0", "d2", 0.5), ("q1", "d1", "d3", -1.0)]
LISTS = [("q0", ["d0", "d1"], [1.5, 0.25], [1, 0]), ("q1", ["d1", "d2", "d3"], [3.0, -2.0, 0.0], [1, 0, 0])]
# Configurations beside `corpus` and `queries`, and the one that is asked for.
HUB = {
    "judgments": {"qrels": JUDGMENTS},
    "lists": {
        "train": [dict(zip(("query_id", "document_ids", "scores"), row, strict=False)) for row in LISTS],
        "qrels": JUDGMENTS,
    },
    "labelled lists": {
        "lists": [{"query_id": query, "doc_ids": names, "labels": labels} for query, names, _, labels in LISTS]
    },
    "triples": {
        "triplets": [
            dict(zip(("query_id", "positive_id", "negative_id", "score"), row, strict=True)) for row in TRIPLES
        ]
    },
    "pairs": {"mse": [{"query_id": query, "corpus_id": name, "score": score} for query, name, _, score in TRIPLES]},
}
ANSWERS = [
    {"query": "who?", "positive": "she", "negative": "he"},
    {"query": "what?", "positive": "that", "negative": "this"},
]


@st.composite
def hub_case(draw) -> tuple:
    """One configuration is changed, or what the README says of them."""
    kind = draw(st.sampled_from([*HUB, "texts"]))
    configs = {"triplet": ANSWERS} if kind == "texts" else TEXTS | HUB[kind]
    suffix = draw(st.sampled_from(["jsonl", "jsonl", "parquet"]))
    paths = {config: f"data/{config}.{suffix}" for config in configs}
    files = {paths[config]: in_format(rows, suffix) for config, rows in configs.items()}
    files["README.md"] = readme(paths)
    chosen = draw(st.sampled_from([*configs, *configs, *configs, "README.md"]))
    if chosen == "README.md":
        files[chosen] = draw(damaged(files[chosen]))
    elif suffix == "jsonl":
        files[paths[chosen]], _ = draw(file_of(configs[chosen]))
    else:
        files[paths[chosen]] = draw(damaged(in_format(draw(changed_rows(configs[chosen])), suffix)))
    return read_hub, files, False


def readme(paths: dict[str, str]) -> bytes:
    """What says which file is which configuration."""
    lines = ["---", "configs:"]
    for config, path in paths.items():
        lines += [f"- config_name: {config}", "  data_files:", "  - split: train", f"    path: {path}"]
    return "\n".join([*lines, "---", ""]).encode()


def in_format(rows: list[dict], suffix: str) -> bytes:
    """Rows as JSON lines or as Parquet; columns of which Parquet has no type are JSON in it."""
    if suffix == "jsonl":
        return plain(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    for name, values in columns.items():
        try:
            parquet({name: values})
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            columns[name] = [json.dumps(value) for value in values]
    return parquet(columns)


def parquet(columns: dict[str, list]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def read_hub(folder: Path) -> Collection:
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", folder / "hf"):
        return read_data(str(folder), "train", folder / "cache", allow_missing=True)


@st.composite
def irds_case(draw) -> tuple:
    """One file of a registered data set is changed."""
    files = {
        "docs.tsv": [list(pair) for pair in DOCUMENTS.items()],
        "queries.tsv": [list(pair) for pair in QUERIES.items()],
        "qrels.txt": [[query, "0", name, grade] for query, name, grade in GRADES],
    }
    brought = draw(st.sampled_from(["", "run.txt", "pairs.tsv"]))
    if brought == "run.txt":
        files[brought] = [["q0", "Q0", f"d{i}", str(i + 1), str(5.5 - i), "tag"] for i in range(4)]
    elif brought:
        files[brought] = [["q0", "d0", "d1"], ["q1", "d1", "d3"]]
    chosen = draw(st.sampled_from(sorted(files)))
    content, _ = draw(file_of(files[chosen]))
    return read_irds, {name: plain(rows) for name, rows in files.items()} | {chosen: content}, False


def read_irds(folder: Path) -> Collection:
    names = {"docs_tsv": "docs.tsv", "queries_tsv": "queries.tsv", "qrels_trec": "qrels.txt"}
    made = ir_datasets.create_dataset(**{part: str(folder / name) for part, name in names.items()})
    for name, layout in {"run.txt": TrecScoredDocs, "pairs.tsv": TsvDocPairs}.items():
        if (folder / name).exists():
            made = ir_datasets.datasets.base.Dataset(layout(LocalDownload(str(folder / name))), made)
    made.dataset_id = lambda: folder.name
    with mock.patch.dict(ir_datasets.registry._registered, {folder.name: made}):
        return read_data(f"ir_datasets:{folder.name}", "train", folder / "cache", allow_missing=True)
