"""Readers and recipes against files that nobody should write: each gives a correct result or one clear error.

    python -m tests.reliability.programs.fuzz --cases 10000 --seed 1

Cases are drawn by hypothesis: tables and JSON made of awkward cells, with lines added, dropped and repeated, and bytes
cut, flipped and put in. What is correct is worked out here by `split` and `json`, not by the readers.
"""

import argparse
import contextlib
import gzip
import io
import json
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from m3se.run_scripts import distill, score_with_teacher
from m3se.run_scripts.cli.app import parse
from m3se.trainers.data import read_data
from m3se.trainers.data.readers.trec import read_qrels
from m3se.trainers.data.schema import Collection
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import read_run
from tests.reliability.programs.fuzz_files import (
    CELLS,
    DOCUMENTS,
    GRADES,
    QUERIES,
    VALUES,
    changed_rows,
    file_of,
    plain,
)
from tests.reliability.programs.fuzz_models import model_case
from tests.reliability.programs.fuzz_runs import ranked_case
from tests.reliability.programs.fuzz_sources import hub_case, irds_case


BEIR = {
    "corpus.jsonl": [{"_id": name, "title": "", "text": text} for name, text in DOCUMENTS.items()],
    "queries.jsonl": [{"_id": name, "text": text} for name, text in QUERIES.items()],
    "qrels/train.tsv": [["query-id", "corpus-id", "score"], *GRADES],
}
MSMARCO = {
    "collection.tsv": [list(pair) for pair in DOCUMENTS.items()],
    "queries.train.tsv": [list(pair) for pair in QUERIES.items()],
    "qrels.train.tsv": [[query, "0", document, grade] for query, document, grade in GRADES],
}
LISTS = {
    "run": [["q0", "Q0", f"d{i}", str(i + 1), str(5.5 - i), "tag"] for i in range(4)],
    "short run": [["q0", f"d{i}", str(i + 1)] for i in range(4)],
    "triples": [["q0", "d0", "d1"], ["q1", "d1", "d3"]],
    "scored": [["1.5", "-0.5", "q0", "d0", "d1"], ["2.5", "0.25", "q1", "d1", "d2"]],
    "top1000": [["q0", name, QUERIES["q0"], text] for name, text in DOCUMENTS.items()],
}
TEXTS = [["a query", "good text", "bad text"], ["another query", "better text", "worse text"]]
DPR = [{
    "question": "who?", "positive_ctxs": [{"passage_id": "1", "title": "t", "text": "she"}],
    "hard_negative_ctxs": [{"passage_id": "2", "title": "t", "text": "he"}], "negative_ctxs": [],
}]  # fmt: skip


def check(read: Callable[[Path], object], files: dict[str, bytes], packed: bool = False) -> str:
    """Read a folder of these files -> "result" or "error"; whatever else is raised comes through."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        for name, content in files.items():
            path = folder / (f"{name}.gz" if packed else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(content, 1) if packed else content)
        try:
            result = read(folder)
        except InputError as error:
            message = str(error)
            assert "\n" not in message, message
            assert len(message) < 2000, message[:200]
            assert any(name in message for name in (str(folder), folder.name, *files)), message
            return "error"
        if isinstance(result, Collection):
            check_collection(result)
        return "result"
    finally:
        shutil.rmtree(folder)


def check_collection(collection: Collection) -> None:
    """What every later step relies on."""
    known = set(collection.documents.ids)
    assert len(known) == len(collection.documents) > 0
    assert all(isinstance(name, str) and name for name in [*known, *collection.queries])
    assert set(collection.qrels) <= set(collection.queries)
    for judged in collection.qrels.values():
        assert judged.keys() <= known
        assert all(-1e38 < grade < 1e38 for grade in judged.values())
    for row in collection.candidates or []:
        assert row["query_id"] in collection.queries or row["query_id"]
        assert set(row["document_ids"]) <= known
        for score in row.get("teacher_scores", []):
            assert score != score or -3.5e38 < score < 3.5e38


def read_folder(folder: Path) -> Collection:
    return read_data(str(folder), "train", folder / "cache")


def read_lists(folder: Path) -> Collection:
    return read_data(str(folder), "train", folder / "cache", candidates=folder / "lists.tsv", allow_missing=True)


def read_file(name: str) -> Callable[[Path], Collection]:
    return lambda folder: read_data(str(folder / name), "train", folder / "cache", qrels=folder / "qrels.tsv")


@st.composite
def folder_case(draw, files: dict[str, list]) -> tuple:
    """One file of a folder is changed, now and then all are packed."""
    chosen = draw(st.sampled_from(sorted(files)))
    content, _ = draw(file_of(files[chosen]))
    made = {name: plain(rows) for name, rows in files.items()} | {chosen: content}
    return read_folder, made, draw(st.integers(0, 9)) == 0


@st.composite
def lists_case(draw) -> tuple:
    kind = draw(st.sampled_from(sorted(LISTS)))
    separator = "\t" if kind == "top1000" else draw(st.sampled_from(["\t", " "]))
    content, _ = draw(file_of(LISTS[kind], separator))
    files = {name: plain(rows) for name, rows in MSMARCO.items()} | {"lists.tsv": content}
    return read_lists, files, False


@st.composite
def texts_case(draw) -> tuple:
    kind = draw(st.sampled_from(["triples", "top1000", "lines", "array"]))
    qrels = {"qrels.tsv": plain([[query, "0", document, grade] for query, document, grade in GRADES])}
    if kind == "array":
        records = draw(changed_rows(DPR))
        content = json.dumps(records).encode()
        cut = draw(st.integers(0, len(content)))
        content = content if draw(st.booleans()) else content[:cut] + draw(st.binary(max_size=3)) + content[cut:]
    else:
        content, _ = draw(file_of({"triples": TEXTS, "top1000": LISTS["top1000"], "lines": DPR}[kind]))
    return read_file("texts.tsv"), {"texts.tsv": content, **qrels}, False


@st.composite
def qrels_case(draw) -> tuple:
    content, whole = draw(file_of(MSMARCO["qrels.train.tsv"], draw(st.sampled_from(["\t", " "]))))

    def read(folder: Path) -> None:
        found = read_qrels(folder / "qrels.tsv")
        lines = content.removeprefix(b"\xef\xbb\xbf").decode().split("\n")
        assert sum(map(len, found.values())) <= len([line for line in lines if line.strip()])

    return read, {"qrels.tsv": content}, False


@st.composite
def run_case(draw) -> tuple:
    content, whole = draw(file_of(LISTS["run"], " "))

    def read(folder: Path) -> None:
        found = read_run(folder / "run.trec")
        lines = [line.split() for line in content.removeprefix(b"\xef\xbb\xbf").decode().split("\n")]
        expected: dict = {}
        for line in filter(None, lines):
            expected.setdefault(line[0], {})[line[2]] = float(line[4])
        assert found == expected

    return read, {"run.trec": content}, False


@st.composite
def recipe_case(draw) -> tuple:
    """A mapping of options of a script, with values of any kind, or any bytes."""
    script = draw(st.sampled_from([distill, score_with_teacher]))
    names = ["data", "output_dir", "output", "loss", "loss_args", "learning_rate", "max_steps", "temperature", "tied"]
    names += [
        "seed",
        "precision",
        "eval_strategy",
        "warmup_steps",
        "optim",
        "teacher",
        "documents_per_query",
        "pooling",
    ]
    keys = st.one_of(st.sampled_from(names), CELLS)
    recipe = draw(st.dictionaries(keys, VALUES, max_size=4)) | draw(
        st.sampled_from([{}, {"data": "x", "output_dir": "y"}, {"output": "x", "teacher": ["y"]}])
    )
    content = json.dumps(recipe).encode("utf-8", "surrogatepass") if draw(st.integers(0, 3)) else draw(st.binary())

    def read(folder: Path) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
            try:
                parse(script.make_parser(), ["--recipe", str(folder / "recipe.yaml")])
            except SystemExit as ended:  # argparse has said what is wrong
                assert ended.code in (0, 2) and said.getvalue()
            except InputError as error:
                raise InputError(f"{folder}: {error}" if str(folder) not in str(error) else str(error)) from error

    return read, {"recipe.yaml": content}, False


CASES = {
    "BEIR": folder_case(BEIR),
    "MS MARCO": folder_case(MSMARCO),
    "lists": lists_case(),
    "texts": texts_case(),
    "Hub": hub_case(),
    "ir_datasets": irds_case(),
    "judgments": qrels_case(),
    "runs": run_case(),
    "rankings": ranked_case(),
    "models": model_case(),
    "recipes": recipe_case(),
}


def fuzz(name: str, cases: int, number: int | None = None) -> Counter[str]:
    """Try `cases` cases of one kind; how many gave a result and how many an error. `number` seeds them."""
    outcomes: Counter[str] = Counter()

    def attempt(case: tuple) -> None:
        outcomes[check(*case)] += 1

    tried = given(CASES[name])(attempt)
    tried = seed(number)(tried) if number is not None else tried
    settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=number is None,
        suppress_health_check=list(HealthCheck),
    )(tried)()
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="in all, shared out among the kinds")
    parser.add_argument("--kinds", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    total: Counter[str] = Counter()
    for name in arguments.kinds:
        started = time.monotonic()
        outcomes = fuzz(name, -(-arguments.cases // len(arguments.kinds)), arguments.seed)
        sys.stdout.write(f"{name}: {dict(outcomes)}, {time.monotonic() - started:.0f} s\n")
        sys.stdout.flush()
        total += outcomes
    sys.stdout.write(f"{sum(total.values())} cases: {dict(total)}\n")


if __name__ == "__main__":
    main()
