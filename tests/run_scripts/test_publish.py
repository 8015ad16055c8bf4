"""Every layout is loaded again by libraries that do not know ours, in a process that cannot import it."""

import os
import re
import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, BertTokenizer

from modeling import CrossEncoder, CrossEncoderConfig, DualEncoder, DualEncoderConfig
from run_scripts.published_folder import build_folder


WORDS = [
    "how",
    "tall",
    "is",
    "a",
    "giraffe",
    "adult",
    "giraffes",
    "stand",
    "metres",
    "the",
    "common",
    "ostrich",
    "lays",
    "largest",
    "eggs",
    "of",
    "any",
    "bird",
    ".",
    ",",
]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = BertTokenizer(vocab={word: row for row, word in enumerate(VOCABULARY)})
    assert tokenizer.tokenize("How tall, ostrich?") == ["how", "tall", ",", "ostrich", "[UNK]"]
    tokenizer(["how tall"], truncation=True, max_length=3, padding="max_length")  # leaves its settings behind
    return tokenizer


def bert(**fields):
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertConfig(vocab_size=len(VOCABULARY), initializer_range=0.5, **size, **fields)


@pytest.fixture
def save(tokenizer, tmp_path):
    """Save a model and its tokenizer as a trainer does -> directory."""

    def save(model):
        directory = tmp_path / "trained"
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return directory

    return save


def run_apart(code, cwd):
    """Run code where this repository cannot be imported -> stdout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    hide = "import sys; sys.meta_path.insert(0, type('', (), {'find_spec': staticmethod(refuse)}))"
    refuse = (
        "def refuse(name, path=None, target=None):\n"
        "    if name.partition('.')[0] in ('modeling', 'trainers', 'hub_cards', 'run_scripts'):\n"
        "        raise ModuleNotFoundError(name)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", f"{refuse}\n{hide}\n{code}"],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def snippets(folder):
    """The card's Python blocks by the heading above them."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"### ([^\n]+)\n(?:(?!###).)*?```python\n(.*?)```", text, flags=re.DOTALL))


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_tied_dual_encoder_gives_the_same_scores_in_four_libraries(save, tmp_path, pooling):
    pytest.importorskip("sentence_transformers")
    torch.manual_seed(0)
    trained = save(DualEncoder(DualEncoderConfig(encoder_config=bert(), pooling=pooling)))
    folder = build_folder(trained, tmp_path / "de")
    code = snippets(folder)
    assert list(code) == [
        "sentence-transformers",
        "transformers",
        "FAISS",
        "m3se, to train further, evaluate and search",
    ]
    expected = torch.tensor(example(folder))
    theirs = [code["sentence-transformers"], code["transformers"]]
    for printed in run_apart("\nprint('---')\n".join(theirs), tmp_path).split("---"):
        torch.testing.assert_close(torch.tensor(numbers(printed)), expected, atol=1e-3, rtol=1e-4)


def example(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    return numbers(re.search(r"so are the scores[^:]*: (.*)", text)[1])


@pytest.mark.parametrize("fields", [{"tied": False}, {"projection_size": 8}, {"output_norm": True}], ids=str)
def test_a_model_that_no_stock_class_can_hold_brings_its_code(save, tmp_path, fields):
    torch.manual_seed(0)
    trained = save(DualEncoder(DualEncoderConfig(encoder_config=bert(), pooling="mean", **fields)))
    folder = build_folder(trained, tmp_path / "de")
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    printed = run_apart(code[0], tmp_path)
    torch.testing.assert_close(torch.tensor(numbers(printed)), torch.tensor(example(folder)), atol=1e-3, rtol=1e-4)


def test_a_cross_encoder_gives_the_same_raw_logits_everywhere(save, tmp_path):
    pytest.importorskip("sentence_transformers")
    torch.manual_seed(0)
    config = CrossEncoderConfig(encoder_config=bert(num_labels=1))
    folder = build_folder(save(CrossEncoder(config)), tmp_path / "ca")
    code = list(snippets(folder).values())
    expected = torch.tensor(example(folder))
    for printed in run_apart("\nprint('---')\n".join(code[:3]), tmp_path).split("---"):
        torch.testing.assert_close(torch.tensor(numbers(printed)), expected, atol=1e-3, rtol=1e-4)
