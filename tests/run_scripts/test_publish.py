"""Every layout is read again by libraries that do not know ours, and gives the scores that the card states."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from modeling import ColBERT, ColBERTConfig, CrossEncoder, CrossEncoderConfig, DualEncoder, DualEncoderConfig
from run_scripts.card_values import example_scores
from run_scripts.published_folder import EXAMPLE_DOCUMENTS, EXAMPLE_QUERY, build_folder, load
from tests import tiny
from tests.run_scripts.apart import numbers, run_all, snippets
from trainers.errors import InputError


TEXT = " ".join([EXAMPLE_QUERY, *EXAMPLE_DOCUMENTS]).lower()
PUNCTUATION = [".", ","]
WORDS = [*sorted(set(re.findall(r"[a-z]+", TEXT))), *PUNCTUATION]
TOKENIZER = tiny.tokenizer(WORDS)
KNOWN = TOKENIZER.get_vocab()


def bert(**fields):
    config = tiny.bert(**fields)
    config.vocab_size = len(TOKENIZER)
    return config


def dual_encoder(**fields):
    return DualEncoder(DualEncoderConfig(encoder_config=bert(), **{"pooling": "mean"} | fields))


def cross_encoder(num_labels=1):
    return CrossEncoder(CrossEncoderConfig(encoder_config=bert(num_labels=num_labels)))


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
    "ca-two": lambda: cross_encoder(num_labels=2),
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
        if (name, path.name) == ("ca-two", "README.md"):
            continue  # with one logit it has fewer parameters than the model that was trained
        assert (again / path.relative_to(published / name)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("name", NATIVE | CUSTOM)
def test_nothing_of_the_machine_or_of_the_last_call_is_left(published, name):
    folder = published / name
    for path in (path for path in folder.rglob("*") if path.suffix in (".json", ".md", ".metadata", ".py", ".txt")):
        assert str(published) not in path.read_text(encoding="utf-8")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None and tokenizer["padding"] is None
    assert AutoTokenizer.from_pretrained(folder).model_max_length >= load(folder)[0].config.document_length


def record(directory, **values):
    (directory / "training.json").write_text(json.dumps(values), encoding="utf-8")


def evaluation(step, dev, train):
    return {"step": step, "eval_nDCG@10": dev, "eval_MRR@10": dev, "train_nDCG@10": train, "train_MRR@10": train}


def test_the_card_tells_the_run_and_shows_its_pictures(tmp_path):
    directory = save(dual_encoder(), tmp_path / "trained")
    record(
        directory,
        loss="m3se",
        teacher="org/ca",
        data={"name": "msmarco-passage", "queries": 10, "documents": 99, "documents_per_query": 4},
        hyperparameters={"learning_rate": 0.01, "run_name": "secret", "hub_token": "x", "resume_from_checkpoint": "y"},
        log_history=[{"step": 1, "loss": 2.0}, evaluation(2, 0.25, 0.5), evaluation(4, 0.5, 0.75), {"step": 4}],
    )
    diagnostics = tmp_path / "diagnostics"
    diagnostics.mkdir()
    for name in ("margins", "stages"):
        (diagnostics / f"{name}.png").write_bytes(name.encode())
    page = "# x\n\n![Normalised margins](margins.png)\n\n![Scores while training](stages.png)\n"
    (diagnostics / "diagnostics.md").write_text(page)
    folder = build_folder(directory, tmp_path / "de", diagnostics=diagnostics)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| 2 | 0.2500 | 0.2500 | 0.5000 | 0.5000 |\n| 4 | 0.5000 | 0.5000 | 0.7500 | 0.7500 |\n" in text
    assert "non-commercial research" in text
    assert "secret" not in text and "resume" not in text and '"learning_rate": 0.01' in text
    assert "![Normalised margins](images/margins.png)" in text and "stages" not in text
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["learning_curve.png", "margins.png"]
    assert (folder / "images" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_curve_of_one_point_is_not_drawn(tmp_path):
    directory = save(dual_encoder(), tmp_path / "trained")
    record(directory, loss="m3se", log_history=[evaluation(2, 0.25, 0.5)])
    assert not (build_folder(directory, tmp_path / "de") / "images").exists()


def test_building_needs_no_network(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection was opened")

    for name, make in (("de", dual_encoder), ("custom", lambda: dual_encoder(output_norm=True)), ("colbert", colbert)):
        directory = save(make(), tmp_path / "trained" / name)
        with monkeypatch.context() as patch:
            patch.setattr("socket.socket.connect", refuse)
            patch.setattr("socket.getaddrinfo", refuse)
            build_folder(directory, tmp_path / name)


def test_two_builds_are_the_same_to_the_byte(tmp_path):
    directory = save(dual_encoder(), tmp_path / "trained")
    record(directory, loss="m3se", log_history=[evaluation(2, 0.25, 0.5), evaluation(4, 0.5, 0.75)])
    first, second = (build_folder(directory, tmp_path / place / "de") for place in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) > 8
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def without(name):
    def spoil(directory, arguments):
        (directory / name).unlink()

    return spoil


def other_tokenizer(directory, arguments):
    tiny.tokenizer([*WORDS, *(f"word{i}" for i in range(80))]).save_pretrained(directory)


def spoiled_metrics(text):
    def spoil(directory, arguments):
        (directory / "metrics.json").write_text(text)
        arguments["metrics"] = directory / "metrics.json"

    return spoil


def given(**values):
    def spoil(directory, arguments):
        arguments |= values

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), "config.json: cannot be read"),
        (without("model.safetensors"), "trained: .*model.safetensors"),
        (without("tokenizer.json"), "has no tokenizer: expected one of tokenizer.json, vocab.txt"),
        (other_tokenizer, r"the tokenizer has 1\d\d tokens, the model knows only \d\d$"),
        (spoiled_metrics("{"), "metrics.json: not JSON"),
        (spoiled_metrics("[]"), "metrics.json: expected a JSON object, got list"),
        (spoiled_metrics('{"MRR@10": 0.5}'), "does not say which data"),
        (spoiled_metrics('{"queries": 5, "data": "x"}'), "metrics have no measure"),
        (given(table=Path("missing.md")), "missing.md: cannot be read"),
        (given(pictures={Path("missing.png"): "x"}), "missing.png: no such picture"),
        (given(diagnostics=Path("missing")), "diagnostics.md: cannot be read"),
        (given(benchmark="org/b:task:MRR@10"), "metrics have no measure"),
        (given(example_query="see hf_" + "a" * 34), "README.md would hold an access token"),
    ],
)
def test_what_cannot_be_published_is_named_and_leaves_nothing(tmp_path, spoil, message):
    directory, arguments = save(dual_encoder(), tmp_path / "trained"), {}
    spoil(directory, arguments)
    with pytest.raises(InputError, match=message):
        build_folder(directory, tmp_path / "de", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


def test_a_model_that_is_not_ours_is_refused(tmp_path):
    dual_encoder().encoder.save_pretrained(tmp_path / "bert")
    TOKENIZER.save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match="model_type is 'bert'; expected one of colbert, cross_encoder, dual_encoder"):
        build_folder(tmp_path / "bert", tmp_path / "de")


def test_a_model_is_never_replaced_by_its_own_publication(tmp_path):
    directory = save(dual_encoder(), tmp_path / "trained")
    with pytest.raises(InputError, match="cannot be the model's own directory"):
        build_folder(directory, directory)
