import re
from functools import partial

import pytest
import torch

from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.publishing.onnx import Encoder, check_parity, export_onnx
from m3se.trainers.errors import InputError
from tests.run_scripts.apart import numbers, snippets
from tests.worlds import tiny


BUILDERS = {
    "de": partial(tiny.dual_encoder, query_prompt="salt: ", document_prompt="iron "),
    "de-cosine": partial(tiny.dual_encoder, pooling="last", projection_size=6, normalize=True),
    "ca": tiny.cross_encoder,
}


@pytest.fixture(scope="module", autouse=True)
def onnxruntime():
    pytest.importorskip("onnxscript")
    return pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_cards_onnx_snippet_prints_the_scores_that_the_card_states(build, tmp_path, monkeypatch, capsys):
    build().save_pretrained(tmp_path / "trained")
    words = {"example_query": "red tree", "example_documents": ("blue river stone", "tree", "light night red blue")}
    tiny.tokenizer().save_pretrained(tmp_path / "trained")
    folder = build_folder(tmp_path / "trained", tmp_path / "published", onnx=True, **words)
    monkeypatch.chdir(tmp_path)
    exec(snippets(folder)["ONNX Runtime"], {})
    found = numbers(capsys.readouterr().out)
    stated = numbers(re.search(r"same scores[^:]*: (.*)\.\n", (folder / "README.md").read_text())[1])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(stated), atol=2e-4, rtol=1e-4)


def test_an_untied_model_is_refused_and_leaves_nothing(tmp_path):
    tiny.dual_encoder(tied=False).save_pretrained(tmp_path / "trained")
    tiny.tokenizer().save_pretrained(tmp_path / "trained")
    with pytest.raises(InputError, match="onnx: queries and documents have encoders of their own"):
        build_folder(tmp_path / "trained", tmp_path / "published", onnx=True)
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


def test_another_result_than_torchs_is_noticed(onnxruntime, tmp_path):
    export_onnx(tiny.dual_encoder().eval(), tiny.tokenizer(), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    names = ["input_ids", "attention_mask"]
    other = Encoder(tiny.dual_encoder(seed=1).encoder, names, "last_hidden_state").eval()
    with pytest.raises(InputError, match="ONNX Runtime and torch differ by"):
        check_parity(session, other, tiny.tokenizer(), False, names)
