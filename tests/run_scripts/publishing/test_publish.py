"""Every layout is read again by libraries that do not know ours, and gives the scores that the card states."""

import json
import re

import pytest
import torch
from huggingface_hub import HfApi
from transformers import AutoTokenizer

from m3se.modeling.publishing import config_fields
from m3se.run_scripts.publishing.build import EXAMPLE_DOCUMENTS, EXAMPLE_QUERY, build_folder, load
from m3se.run_scripts.publishing.card_values import example_scores
from m3se.run_scripts.publishing.folder import CODE, FORMER_CODE
from m3se.run_scripts.publishing.upload import make_plan, upload
from m3se.trainers.retrieval.loading import load_scorer
from tests.hub_server import serve
from tests.run_scripts.apart import numbers, run_all, snippets
from tests.worlds.example_models import CUSTOM, NATIVE, TOKENIZER, save


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with every kind of model, published: `{name}` is a published folder of that name."""
    root = tmp_path_factory.mktemp("published")
    for seed, (name, make) in enumerate((NATIVE | CUSTOM).items()):
        torch.manual_seed(seed)
        build_folder(save(make(), root / "trained" / name), root / name)
    return root


BY_ID = """
from transformers import AutoModel, AutoTokenizer
from huggingface_hub import ModelCard
print(type(AutoModel.from_pretrained("org/de-cls")).__name__)
print(len(AutoTokenizer.from_pretrained("org/de-cls")), ModelCard.load("org/de-cls").data.library_name)
"""


@pytest.fixture(scope="module")
def printed(published):
    """What the snippets of all cards, and BY_ID, print in one process that cannot import this repository."""
    pytest.importorskip("sentence_transformers")
    code = {
        f"{name}: {library}": text
        for name in NATIVE | CUSTOM
        for library, text in snippets(published / name).items()
        if not library.startswith(("m3se", "PyLate"))
    }
    with pytest.MonkeyPatch.context() as patch, serve() as hub:
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        api, folder = HfApi(endpoint=hub.url, token="writer"), published / "de-cls"
        upload(api, folder, make_plan(api, folder, "org/de-cls"))
        return run_all({"by id": BY_ID} | code, published, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")


def test_a_repository_loads_by_its_id(printed):
    assert printed["by id"].split() == ["BertModel", str(len(TOKENIZER)), "sentence-transformers"]


def stated_scores(folder):
    return numbers(re.search(r"same scores[^:]*: (.*)\.\n", (folder / "README.md").read_text())[1])


def in_order(library, values):
    """Sort what FAISS and m3se print with the best first."""
    return sorted(values) if library.startswith(("FAISS", "m3se")) else values


def printed_scores(text):
    """Return the scores in what a snippet prints; one of the documents has numbers in it."""
    for document in EXAMPLE_DOCUMENTS:
        text = text.replace(document, "")
    return numbers(text)


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
    scores = torch.tensor(in_order(library, printed_scores(printed[f"{name}: {library}"])))
    torch.testing.assert_close(scores, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CUSTOM)
def test_a_model_that_no_stock_class_can_hold_brings_its_code(published, printed, name):
    found = numbers(printed[f"{name}: Use it"])
    torch.testing.assert_close(
        torch.tensor(found), torch.tensor(stated_scores(published / name)), atol=2e-4, rtol=1e-4
    )
    assert (published / name / f"{name.partition('-')[0].replace('de', 'dual_encoder')}.py").is_file()


def test_the_code_that_folders_bring_is_known_as_ours(published):
    assert {path.name for name in CUSTOM for path in (published / name).glob("*.py")} == CODE - FORMER_CODE


@pytest.mark.parametrize("name", NATIVE | CUSTOM)
def test_our_own_snippet_prints_the_same(published, name, monkeypatch, capsys):
    monkeypatch.chdir(published)
    library, code = next(item for item in snippets(published / name).items() if item[0].startswith("m3se"))
    exec(code, {})
    scores = torch.tensor(in_order(library, printed_scores(capsys.readouterr().out)))
    scale = load(published / "trained" / name)[0].reached_scale()
    expected = torch.tensor(in_order(library, stated_scores(published / name)))
    torch.testing.assert_close(scores / scale, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in NATIVE if name.startswith("de")])
def test_vectors_are_those_of_sentence_transformers(published, name):
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(published / name), device="cpu")
    ours = load_scorer(published / name, "float32", device="cpu").encode(EXAMPLE_DOCUMENTS, "document")
    torch.testing.assert_close(
        torch.tensor(ours), torch.tensor(theirs.encode_document(EXAMPLE_DOCUMENTS)), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", NATIVE | CUSTOM)
def test_our_classes_give_back_the_model_that_was_trained(published, name):
    trained, _ = load(published / "trained" / name)
    again, tokenizer = load(published / name)
    expected = example_scores(trained, TOKENIZER, EXAMPLE_QUERY, list(EXAMPLE_DOCUMENTS))
    found = example_scores(again, tokenizer, EXAMPLE_QUERY, list(EXAMPLE_DOCUMENTS))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-5, rtol=1e-6)
    assert config_fields(again) == config_fields(trained)


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
