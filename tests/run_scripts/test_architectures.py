"""Families of encoders as students of every kind: trained, resumed, published and read elsewhere, or refused."""

import json
import re
import shutil
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from m3se import InputError, load_scorer
from m3se.run_scripts import distill
from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.publishing.build import build_folder
from m3se.trainers.run_folder import RECORD
from tests.run_scripts.apart import numbers, run_all, snippets
from tests.worlds import tiny
from tests.worlds.families import FAMILIES, save_family


pytestmark = [pytest.mark.slow, pytest.mark.long]
PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
KINDS = {"dual_encoder": "dual encoder", "colbert": "ColBERT", "cross_encoder": "cross-encoder"}
CELLS = list(product(FAMILIES, KINDS))
# `colbert_args`, the first that is not refused
WAYS = [{}, {"markers": None}, {"markers": None, "mask_augmentation": "none"}]
QUERY, DOCUMENTS = "red tree", ("blue green tree river", "red stone tree bread salt")
LIBRARIES = ("sentence-transformers", "transformers", "Use it")  # headings of the cards' snippets
CLOSE = {"atol": 2e-4, "rtol": 1e-4}  # cards state four digits


@dataclass
class Cell:
    """A family trained as a kind of student.

    Attributes:
        refusal: the last refusal; None when a way was found.
        colbert_args: that way.
        published: the published folder.
        weights: of the run, and of the same run stopped after its first step and gone on with.
    """

    refusal: str | None = None
    colbert_args: dict | None = None
    published: Path | None = None
    weights: tuple[dict, dict] | None = None


def train(root: Path, encoder: str, output: Path, kind: str, pooling: str, colbert_args: dict) -> None:
    """Run distill.py for two steps, with a checkpoint after each."""
    options = {
        "data": root / "lists",
        "encoder": encoder,
        "architecture": kind,
        "colbert_args": json.dumps(colbert_args),
        "pooling": pooling,
        "query_length": 8,
        "document_length": 16,
        "dev_queries": 0,
        "train_sample_size": 0,
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.01,
        "save_strategy": "steps",
        "save_steps": 1,
        "precision": "fp32",
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": output,
    }
    line = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    distill.main(*parse(distill.make_parser(), line))


def stop_after_first_step(output: Path) -> None:
    """Leave of a finished run what a kill after its first step would have left."""
    for name in (RECORD, "model.safetensors", "config.json"):
        (output / name).unlink()
    shutil.rmtree(output / "checkpoint-2")


def fill_cell(root: Path, encoder: str, kind: str, pooling: str) -> Cell:
    """Train, resume and publish, in the first way that is not refused."""
    cell = Cell()
    output = root / "trained" / f"{Path(encoder).name}-{kind}"
    for colbert_args in WAYS if kind == "colbert" else WAYS[:1]:
        try:
            train(root, encoder, output, kind, pooling, colbert_args)
        except InputError as error:
            assert "\n" not in str(error) and not output.exists()
            cell.refusal = str(error).replace(encoder, "it")
            continue
        first = load_file(output / "model.safetensors")
        stop_after_first_step(output)
        train(root, encoder, output, kind, pooling, colbert_args)
        cell.weights = first, load_file(output / "model.safetensors")
        cell.refusal, cell.colbert_args = None, colbert_args
        example = {"example_query": QUERY, "example_documents": DOCUMENTS}
        cell.published = build_folder(output, root / output.name, **example)
        break
    return cell


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("architectures")
    tiny.ranking_lists(queries=16).save(folder / "lists")
    return folder


@pytest.fixture(scope="module")
def cells(root):
    filled = {}
    for family in FAMILIES:
        encoder = save_family(family, root / "encoders" / re.sub(r"\W+", "_", family))
        for kind in KINDS:
            filled[family, kind] = fill_cell(root, encoder, kind, FAMILIES[family].pooling)
    return filled


@pytest.fixture(scope="module")
def printed(root, cells):
    """What the cards' snippets print in one process that cannot import this repository."""
    code = {}
    for cell, filled in cells.items():
        if filled.published is not None:
            texts = snippets(filled.published)
            code |= {"/".join([*cell, library]): texts[library] for library in texts.keys() & set(LIBRARIES)}
    return run_all(code, root)


@pytest.mark.parametrize(("family", "kind"), CELLS)
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(family, kind, cells):
    if cells[family, kind].weights is None:
        pytest.skip("refused")
    torch.testing.assert_close(*cells[family, kind].weights, atol=0, rtol=0)


@pytest.mark.parametrize(("family", "kind"), CELLS)
def test_every_library_gives_the_scores_that_the_card_states(family, kind, cells, printed):
    folder = cells[family, kind].published
    if folder is None:
        pytest.skip("refused")
    text = (folder / "README.md").read_text(encoding="utf-8")
    stated = torch.tensor(numbers(re.search(r"same scores[^:]*: (.*)\.\n", text)[1]))
    scores = load_scorer(str(folder), "float32", device="cpu").score(QUERY, DOCUMENTS)
    torch.testing.assert_close(torch.tensor(scores), stated, **CLOSE)
    outputs = [output for name, output in printed.items() if name.startswith(f"{family}/{kind}/")]
    assert outputs
    for output in outputs:
        torch.testing.assert_close(torch.tensor(numbers(output)), stated, **CLOSE)


def describe(cell: Cell) -> str:
    """Say in the words of the page what came out."""
    if cell.refusal is not None:
        return f"refused: {cell.refusal}"
    options = ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in cell.colbert_args.items())
    return f"with {options}".replace('"', "") if options else "yes"


def test_the_page_tells_what_came_out(cells):
    rows = [f"| encoder | {' | '.join(KINDS.values())} |", "|---|---|---|---|"]
    for family in FAMILIES:
        row = " | ".join(describe(cells[family, kind]) for kind in KINDS)
        rows.append(f"| {family} | {row} |")
    assert "\n".join(rows) in PAGE.read_text(encoding="utf-8"), "the table is now:\n" + "\n".join(rows)
