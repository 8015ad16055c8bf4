"""Published files of OpenVINO and ONNX Runtime: where they lie, and that the card's snippets run on them."""

import json
import re
from functools import partial

import pytest
import torch

from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.publishing.compiled_files import CompiledFiles
from m3se.trainers.errors import InputError
from tests.run_scripts.apart import numbers, snippets
from tests.worlds import small_world, tiny


pytestmark = pytest.mark.long
PROMPTS = {"query_prompt": "salt: ", "document_prompt": "iron "}
BUILDERS = {
    "de": partial(tiny.dual_encoder, pooling="last", projection_size=6, normalize=True, **PROMPTS),
    "ca": tiny.cross_encoder,
}
WORDS = {"example_query": "red tree", "example_documents": ("blue river stone", "tree", "light night red blue")}
LIBRARIES = {
    "openvino": (("openvino", "nncf"), "OpenVINO", "openvino_model.xml", "openvino_model_qint8_quantized.xml"),
    "onnx": (("onnxruntime", "onnxscript"), "ONNX Runtime", "model.onnx", "model_qint8_quantized.onnx"),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    for package in LIBRARIES[request.param][0]:
        pytest.importorskip(package)
    return request.param


def save(model, folder):
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def closeness(library):
    """Tolerances of float32, or of bfloat16 where OpenVINO multiplies in it by itself."""
    is_rounded = library == "openvino" and tiny.IS_BFLOAT16
    return {"atol": 2e-2, "rtol": 1e-2} if is_rounded else {"atol": 2e-4, "rtol": 1e-4}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_cards_snippet_prints_the_scores_that_the_card_states(build, library, tmp_path, monkeypatch, capsys):
    trained = save(build(), tmp_path / "trained")
    files = CompiledFiles(**{library: "float32"})
    folder = build_folder(trained, tmp_path / "published", compiled=files, **WORDS)
    monkeypatch.chdir(tmp_path)
    exec(snippets(folder)[LIBRARIES[library][1]], {})
    printed = numbers(capsys.readouterr().out)
    stated = numbers(re.search(r"same scores[^:]*: (.*)\.\n", (folder / "README.md").read_text())[1])
    torch.testing.assert_close(torch.tensor(printed), torch.tensor(stated), **closeness(library))


def test_int8_lies_where_it_is_looked_for_and_the_card_states_its_loss(library, tmp_path, monkeypatch, capsys):
    data, trained = small_world.write_collection(tmp_path / "data"), save(tiny.dual_encoder(), tmp_path / "trained")
    files = CompiledFiles(**{library: "int8"}, calibration=str(data), cache_dir=str(tmp_path / "cache"))
    folder = build_folder(trained, tmp_path / "published", compiled=files, **WORDS)
    _, heading, exact, int8 = LIBRARIES[library]
    card = (folder / "README.md").read_text()
    (report,) = (tmp_path / "cache").glob("compiled-*/loss-*.json")
    tau = json.loads(report.read_text())["kendall_tau"]
    assert re.search(rf"\| `{library}/{re.escape(int8)}` \| int8 \| 0\.\d{{4}}, 0\.\d{{4}} \| {tau:.3f} \|\n", card)
    assert "calibrated on texts of data. It re-ranked BM25's candidates of 3 queries" in card
    monkeypatch.chdir(tmp_path)
    code = snippets(folder)[heading].replace(exact, int8).replace(".bin", "_qint8_quantized.bin")
    exec(code, {})
    printed = numbers(capsys.readouterr().out)
    stated = numbers(re.search(r"same scores[^:]*: (.*)\.\n", card)[1])
    assert printed != stated
    torch.testing.assert_close(torch.tensor(printed), torch.tensor(stated), atol=2, rtol=0.1)


def test_what_cannot_be_published_so_is_refused_and_leaves_nothing(library, tmp_path):
    trained = save(tiny.dual_encoder(tied=False), tmp_path / "trained")
    refusals = {"float32": "encoders of their own", "int8": "name with --calibration", "int4": "expected float32 or"}
    for number_format, message in refusals.items():
        with pytest.raises(InputError, match=message):
            build_folder(trained, tmp_path / "published", compiled=CompiledFiles(**{library: number_format}))
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]
