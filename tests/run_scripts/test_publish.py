"""Every layout is read again by libraries that do not know ours, and gives the scores that the card states."""

import json
import re

import pytest
import torch
from transformers import AutoTokenizer

from modeling import ColBERT, ColBERTConfig, CrossEncoder, CrossEncoderConfig, DualEncoder, DualEncoderConfig
from run_scripts.card_values import example_scores
from run_scripts.published_folder import EXAMPLE_DOCUMENTS, EXAMPLE_QUERY, build_folder, load
from tests import tiny
from tests.run_scripts.apart import numbers, run_all, snippets


TEXT = " ".join([EXAMPLE_QUERY, *EXAMPLE_DOCUMENTS]).lower()
PUNCTUATION = [".", ","]
WORDS = [*sorted(set(re.findall(r"[a-z]+", TEXT))), *PUNCTUATION, "[unused0]", "[unused1]"]
TOKENIZER = tiny.tokenizer(WORDS)
KNOWN = TOKENIZER.get_vocab()


def bert(**fields):
    config = tiny.bert(**fields)
    config.vocab_size = len(TOKENIZER)
    return config


def dual_encoder(**fields):
    return DualEncoder(DualEncoderConfig(encoder_config=bert(), **{"pooling": "mean"} | fields))


def cross_encoder(**fields):
    return CrossEncoder(CrossEncoderConfig(encoder_config=bert(num_labels=1), **fields))


def colbert(**fields):
    ids = {
        "query_marker_id": KNOWN["[unused0]"],
        "document_marker_id": KNOWN["[unused1]"],
        "mask_token_id": KNOWN["[MASK]"],
        "skiplist_ids": sorted(KNOWN[symbol] for symbol in PUNCTUATION),
    }
    return ColBERT(ColBERTConfig(encoder_config=bert(), **{"projection_size": 8} | ids | fields))


NATIVE = {
    "de-mean": lambda: dual_encoder(),
    "de-cls": lambda: dual_encoder(pooling="cls", query_length=20, document_length=11),
    "ca": lambda: cross_encoder(),
    "colbert-mean": lambda: colbert(),
    "colbert-sum": lambda: colbert(reduction="sum", skiplist_ids=[], attend_to_mask=True, document_length=11),
    "colbert-wide": lambda: colbert(projection_size=None),
}
CUSTOM = {
    "de-untied": lambda: dual_encoder(tied=False),
    "de-projection": lambda: dual_encoder(projection_size=8),
    "de-norm": lambda: dual_encoder(output_norm=True),
    "colbert-dot": lambda: colbert(normalize=False, mask_augmentation="append", mask_tokens=3),
}


def save(model, directory):
    """A trainer's output: model, tokenizer with the settings of its last call, nothing else."""
    model.save_pretrained(directory)
    tokenizer = tiny.tokenizer(WORDS)
    tokenizer(["how tall"], truncation=True, max_length=3, padding="max_length")
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with every kind of model, published: `{name}` is a published folder of that name."""
    root = tmp_path_factory.mktemp("published")
    for seed, (name, make) in enumerate((NATIVE | CUSTOM).items()):
        torch.manual_seed(seed)
        build_folder(save(make(), root / "trained" / name), root / name)
    return root


@pytest.fixture(scope="module")
def printed(published):
    """What the snippets of all cards print in one process that cannot import this repository."""
    pytest.importorskip("sentence_transformers")
    code = {
        f"{name}: {library}": text
        for name in NATIVE | CUSTOM
        for library, text in snippets(published / name).items()
        if not library.startswith(("m3se", "PyLate"))
    }
    return run_all(code, published)


def stated_scores(folder):
    return numbers(re.search(r"so are the scores[^:]*: (.*)\.\n", (folder / "README.md").read_text())[1])


def in_order(library, values):
    """FAISS prints the best first."""
    return sorted(values) if library == "FAISS" else values


LIBRARIES = {
    "de": ["sentence-transformers", "transformers", "FAISS"],
    "ca": ["sentence-transformers", "transformers", "transformers, as a pipeline"],
    "colbert": ["sentence-transformers", "transformers"],
}


@pytest.mark.parametrize(
    ("name", "library"), [(name, library) for name in NATIVE for library in LIBRARIES[name.partition("-")[0]]]
)
def test_other_libraries_print_the_scores_that_the_card_states(published, printed, name, library):
    expected = torch.tensor(in_order(library, stated_scores(published / name)))
    text = printed[f"{name}: {library}"]
    for document in EXAMPLE_DOCUMENTS:
        text = text.replace(document, "")  # one of them has numbers in it
    found = torch.tensor(in_order(library, numbers(text)))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CUSTOM)
def test_a_model_that_no_stock_class_can_hold_brings_its_code(published, printed, name):
    found = numbers(printed[f"{name}: Use it"])
    torch.testing.assert_close(
        torch.tensor(found), torch.tensor(stated_scores(published / name)), atol=2e-4, rtol=1e-4
    )
    assert (published / name / f"{name.partition('-')[0].replace('de', 'dual_encoder')}.py").is_file()


@pytest.mark.parametrize("name", NATIVE)
def test_our_own_snippet_prints_the_same(published, name, monkeypatch, capsys):
    monkeypatch.chdir(published)
    code = next(text for library, text in snippets(published / name).items() if library.startswith("m3se"))
    exec(code, {})
    found = torch.tensor(numbers(capsys.readouterr().out))
    torch.testing.assert_close(found, torch.tensor(stated_scores(published / name)), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NATIVE | CUSTOM)
def test_our_classes_give_back_the_model_that_was_trained(published, name):
    trained, _ = load(published / "trained" / name)
    again, tokenizer = load(published / name)
    expected = example_scores(trained, TOKENIZER, EXAMPLE_QUERY, list(EXAMPLE_DOCUMENTS))
    found = example_scores(again, tokenizer, EXAMPLE_QUERY, list(EXAMPLE_DOCUMENTS))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-5, rtol=1e-6)
    for field in type(trained.config).__annotations__.keys() - {"encoder_config"}:
        assert getattr(again.config, field) == getattr(trained.config, field), field


@pytest.mark.parametrize("name", NATIVE | CUSTOM)
def test_a_published_folder_can_be_published_again(published, name, tmp_path):
    again = build_folder(published / name, tmp_path / name)
    for path in (path for path in (published / name).rglob("*") if path.is_file()):
        assert (again / path.relative_to(published / name)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("name", NATIVE | CUSTOM)
def test_nothing_of_the_machine_or_of_the_last_call_is_left(published, name):
    folder = published / name
    for path in (path for path in folder.rglob("*") if path.suffix in (".json", ".md", ".metadata", ".py", ".txt")):
        assert str(published) not in path.read_text(encoding="utf-8")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None and tokenizer["padding"] is None
    assert AutoTokenizer.from_pretrained(folder).model_max_length >= load(folder)[0].config.document_length
