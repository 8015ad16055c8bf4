"""The card's lines for sentence-transformers and fastembed, run by those libraries in environments of their own."""

import json
import re
import subprocess

import pytest
import torch

from m3se.run_scripts.benchmarks.peer_environment import peer_python
from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.publishing.compiled_files import CompiledFiles
from m3se.trainers.errors import InputError
from m3se.trainers.storage.cache import cache_root
from tests.run_scripts.apart import numbers
from tests.run_scripts.publishing.test_compiled_files import LIBRARIES, WORDS, closeness, save
from tests.worlds import small_world, tiny


pytestmark = pytest.mark.long
BUILDERS = {
    "SentenceTransformer": lambda: tiny.dual_encoder(pooling="mean", normalize=True),
    "CrossEncoder": tiny.cross_encoder,
}
USES = {
    "SentenceTransformer": "(model.encode([query]) @ model.encode(documents).T)[0]",
    "CrossEncoder": "model.predict([(query, text) for text in documents])",
    "TextEmbedding": "np.stack(list(model.embed([query]))) @ np.stack(list(model.embed(documents))).T",
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    for package in LIBRARIES[request.param][0]:
        pytest.importorskip(package)
    return request.param


def run(library, program, folder):
    """What a program prints as JSON, in the environment that has the peers with this library."""
    try:
        python = peer_python(library, cache_root(None))
    except InputError as error:
        pytest.skip(str(error))
    done = subprocess.run([python, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.tensor(json.loads(done.stdout.splitlines()[-1])).flatten()


def program(imports, statements, use):
    query, documents = WORDS["example_query"], list(WORDS["example_documents"])
    lines = ["import json", "import numpy as np", imports, f"query, documents = {query!r}, {documents!r}", *statements]
    lines.append(f"print(json.dumps(np.asarray({use}).tolist()))")
    return "\n".join(lines)


def stated(card):
    return torch.tensor(numbers(re.search(r"same scores[^:]*: (.*)\.\n", card)[1]))


@pytest.mark.parametrize("kind", BUILDERS)
def test_sentence_transformers_reads_the_file_by_the_cards_line(kind, library, tmp_path):
    trained = save(BUILDERS[kind](), tmp_path / "trained")
    folder = build_folder(trained, tmp_path / "published", compiled=CompiledFiles(**{library: "float32"}), **WORDS)
    card = (folder / "README.md").read_text()
    line = re.search(r"sentence-transformers reads them by `(.*?)`", card)[1]
    assert f'backend="{library}"' in line
    text = program(f"from sentence_transformers import {kind}", [f"model = {line}"], USES[kind])
    torch.testing.assert_close(run(library, text, tmp_path), stated(card), **closeness(library))


def test_the_line_names_the_int8_file_where_there_is_one(library, tmp_path):
    data = small_world.write_collection(tmp_path / "data")
    trained = save(BUILDERS["SentenceTransformer"](), tmp_path / "trained")
    files = CompiledFiles(**{library: "int8"}, calibration=str(data), cache_dir=str(tmp_path / "cache"))
    card = (build_folder(trained, tmp_path / "published", compiled=files, **WORDS) / "README.md").read_text()
    line = re.search(r"sentence-transformers reads them by `(.*?)`", card)[1]
    assert LIBRARIES[library][3] in line
    imports, use = "from sentence_transformers import SentenceTransformer", USES["SentenceTransformer"]
    printed = run(library, program(imports, [f"model = {line}"], use), tmp_path)
    torch.testing.assert_close(printed, stated(card), atol=2, rtol=0.1)


def test_fastembed_reads_the_onnx_file_by_the_cards_line(tmp_path):
    pytest.importorskip("onnxscript")
    trained = save(BUILDERS["SentenceTransformer"](), tmp_path / "trained")
    folder = build_folder(trained, tmp_path / "published", compiled=CompiledFiles(onnx="float32"), **WORDS)
    card = (folder / "README.md").read_text()
    line = re.search(r"fastembed reads those of ONNX Runtime: `(.*?)`", card)[1]
    name = re.search(r'model=("[^"]*")', line)[1]
    statements = [line, f'model = TextEmbedding({name}, specific_model_path="published")']
    imports = (
        "from fastembed import TextEmbedding; from fastembed.common.model_description import ModelSource, PoolingType"
    )
    text = program(imports, statements, USES["TextEmbedding"])
    torch.testing.assert_close(run("onnx", text, tmp_path), stated(card), atol=2e-4, rtol=1e-4)
