"""What SECURITY.md promises."""

import ast
import json
import logging
import pickle
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertModel

from m3se import ColBERT, CrossEncoder, DualEncoder, RankingConfig
from m3se.hub_cards.card import render_card
from m3se.run_scripts import distill, evaluate
from m3se.run_scripts.cli.app import parse, run
from m3se.run_scripts.publishing.folder import TOKEN
from m3se.run_scripts.publishing.push import make_publisher
from m3se.run_scripts.publishing.upload import make_plan
from m3se.run_scripts.work.evaluate import folder_name
from m3se.trainers.diagnostics.disagreement import cell
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.markdown import escaped
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.teacher.pair_scorer import PairScorer
from tests.hub_cards.test_card import REQUIRED, TRAINED
from tests.hub_server import serve
from tests.hub_state import File, Repository
from tests.worlds import tiny
from tests.worlds.small_world import write_collection, write_encoder


ROOT = Path(__file__).parents[2]
FOLDERS = ("modeling", "trainers", "hub_cards", "run_scripts")
SECRET = "hf_" + "Planted" * 5
EVIL = '<img src="http://evil.example/x"><script>alert(1)</script> ![x](http://evil.example) [a](b) `c` | d | \\| *e*'


def calls():
    """(file, dotted name, call) of every call in our code."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield path, ast.unparse(node.func), node


def keywords(call):
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def test_no_pickle_is_loaded_and_no_code_run_from_files():
    forbidden = {
        "yaml.load",
        "yaml.unsafe_load",
        "eval",
        "exec",
        "os.system",
        "os.popen",
        "pickle.load",
        "pickle.loads",
    }
    for path, name, call in calls():
        given_ = keywords(call)
        assert name not in forbidden, (path, call.lineno)
        assert name != "torch.load" or given_.get("weights_only") == "True", (path, call.lineno)
        assert given_.get("allow_pickle", "False") == "False", (path, call.lineno)
        assert given_.get("trust_remote_code", "False") == "False", (path, call.lineno)
        assert given_.get("shell", "False") == "False", (path, call.lineno)


def test_no_module_for_pickles_is_imported():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            names = re.findall(r"^\s*(?:import|from)\s+(\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert not {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"} & set(names), path


class Bomb:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "loaded"))


@pytest.mark.parametrize("load", [DualEncoder.from_encoder, ColBERT.from_encoder, CrossEncoder.from_encoder,
    DualEncoder.from_pretrained, PairScorer.from_pretrained, encoder_path,
    lambda path: load_scorer(path, pooling="mean")])  # fmt: skip
def test_pickled_weights_are_not_even_read(tmp_path, load):
    write_encoder(tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    (tmp_path / "encoder" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "loaded")))
    with pytest.raises((InputError, OSError, ValueError)):
        load(str(tmp_path / "encoder"))
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize("load", [DualEncoder.from_encoder, CrossEncoder.from_encoder, DualEncoder.from_pretrained,
    PairScorer.from_pretrained, lambda path: load_scorer(path, pooling="mean")])  # fmt: skip
def test_code_beside_weights_is_not_run(tmp_path, load, monkeypatch):
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115  nobody there to ask
    folder = tmp_path / "encoder"
    BertModel(tiny.bert()).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Evil: pass\n", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    auto_map = {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(config | auto_map), encoding="utf-8")
    with pytest.raises((InputError, OSError, ValueError)):
        load(str(folder))
    assert not (tmp_path / "run").exists()


def test_ids_from_data_do_not_become_paths(tmp_path, monkeypatch):
    collection = write_collection(tmp_path / "words")
    names = {"d1": "../../escaped", "d2": "/etc/escaped", "d3": "..\\escaped"}
    for path in (*collection.glob("*.jsonl"), *collection.glob("qrels/*.tsv")):
        text = path.read_text(encoding="utf-8")
        for old, new in names.items():
            text = text.replace(f'"{old}"', json.dumps(new)).replace(f"\t{old}\t", f"\t{new}\t")
        path.write_text(text, encoding="utf-8")
    before = {path for path in tmp_path.rglob("*")}
    options = ["--data", str(collection), "--output", str(tmp_path / "out"), "--cache_dir", str(tmp_path / "cache")]
    monkeypatch.setattr("sys.argv", ["evaluate.py", *options, "--depth", "60"])
    run(evaluate.make_parser, evaluate.main)
    made = {path for path in tmp_path.rglob("*")} - before
    assert {path.relative_to(tmp_path).parts[0] for path in made} == {"out", "cache"}
    assert "../../escaped" in (tmp_path / "out" / "bm25" / "run.trec").read_text(encoding="utf-8")


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(st.one_of(st.text(), st.sampled_from(["..", ".", "../../x", "/etc", "", "a/../b", "\x00", "CON"])))
def test_a_name_becomes_one_harmless_folder_name(name):
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*[a-z0-9]|[a-z0-9]", folder_name(name))


@pytest.mark.parametrize("name", ["org/..", "org/../..", "../org", "org/a/b", "org/"])
def test_a_repository_name_that_leads_elsewhere_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    config = RankingConfig(output_dir=str(tmp_path), push_to_hub=True, hub_model_id=name)
    with pytest.raises(InputError, match="hub_model_id"):
        make_publisher(config)


def test_file_names_of_a_repository_cannot_leave_the_download_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "inside"))
    (tmp_path / "inside").mkdir()
    with serve() as hub:
        repository = Repository.new(private=False)
        files = {"../../escaped": b"x", "SHA256SUMS": b"0  ../../escaped\n"}
        repository.commit("main", {name: File(content, lfs=False) for name, content in files.items()}, "evil")
        hub.repositories["org/evil"] = repository
        (tmp_path / "README.md").write_text("")
        api = HfApi(endpoint=hub.url, token="writer")
        assert make_plan(api, tmp_path, "org/evil").delete == ["../../escaped"]
    assert not list(tmp_path.glob("**/escaped"))


def test_a_token_is_in_nothing_that_a_training_writes_or_says(lists, tmp_path, monkeypatch, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    lists.save(tmp_path / "lists")
    write_encoder(tmp_path / "encoder")
    options = {"data": tmp_path / "lists", "encoder": tmp_path / "encoder", "output_dir": tmp_path / "out"}
    options |= {"max_steps": 2, "save_steps": 1, "dev_queries": 0, "document_length": 16, "eval_strategy": "no"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["distill.py", *words, "--cache_dir", str(tmp_path / "cache")])
    run(distill.make_parser, distill.main)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (tmp_path / "out" / "checkpoint-2" / "training_args.bin") in written
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in "".join(capfd.readouterr()) + caplog.text


def test_a_token_as_an_argument_is_refused_and_not_repeated(tmp_path, capfd):
    assert TOKEN.search(SECRET)
    argv = ["--data", "x", "--output_dir", str(tmp_path), "--hub_token", SECRET]
    with pytest.raises(InputError, match="hub_token: has no effect here; set HF_TOKEN") as refused:
        parse(distill.make_parser(), argv)
    assert SECRET not in str(refused.value) + "".join(capfd.readouterr())


def markup(text):
    """Unescaped markup in a line of Markdown."""
    return re.findall(r"<(?!/?(?:details|summary|br)\b)\w|(?<!\\)!\[|(?<!\\)\]\(http://evil", re.sub(r"\\<", "", text))


def test_texts_and_names_from_data_cannot_become_markup_in_reports():
    for shown in (cell(EVIL), escaped(EVIL), escaped("a\n# b\n\n| c |")):
        assert markup(shown) == [] and "\n" not in shown
        assert shown.replace("\\\\", "").count("|") == shown.replace("\\\\", "").count("\\|")


def test_texts_and_names_from_data_cannot_become_markup_in_cards():
    values = REQUIRED | TRAINED | {"name": EVIL, "teacher": EVIL, "split": EVIL}
    values |= {"metrics": {"MRR@10": 0.5, "queries": 3}, "dataset": f"{EVIL}\n---\nevil: true", "data_notes": EVIL}
    values |= {"data": {"name": EVIL, "queries": 2}, "hardware": EVIL}
    for field in ("base_model", "license", "language", "datasets"):
        with pytest.raises(ValueError, match=field):
            render_card(**values, **{field: EVIL})
    card = render_card(**values)
    front = yaml.safe_load(REGEX_YAML_BLOCK.search(card)[2])
    assert "evil" not in front and front["pipeline_tag"] == "sentence-similarity"
    body = card[REGEX_YAML_BLOCK.search(card).end() :]
    prose = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    assert [line for line in prose.splitlines() if markup(line)] == []


def test_no_script_listens_on_the_network():
    for path, name, call in calls():
        assert name.rpartition(".")[2] not in {"HTTPServer", "serve_forever", "create_server", "listen"}, (
            path,
            call.lineno,
        )
