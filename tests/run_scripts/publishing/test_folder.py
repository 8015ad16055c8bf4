"""Where a published folder may be written, and what must not be in it."""

import json
from pathlib import Path

import pytest

from m3se.run_scripts.publishing.folder import CODE, check_clean, new_folder


def publish(folder, text="{}"):
    with new_folder(folder) as staging:
        (staging / "config.json").write_text(json.dumps({"m3se": {}}))
        (staging / "modules.json").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_with_all_its_files_and_is_readable(tmp_path):
    publish(tmp_path / "a" / "b")
    assert names(tmp_path / "a") == ["b"]
    assert names(tmp_path / "a" / "b") == ["SHA256SUMS", "config.json", "modules.json"]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755


def test_an_earlier_publication_is_replaced_as_a_whole(tmp_path):
    publish(tmp_path / "x", "old")
    (tmp_path / "x" / "artifact.metadata").write_text("{}")
    publish(tmp_path / "x", "new")
    assert names(tmp_path / "x") == ["SHA256SUMS", "config.json", "modules.json"]
    assert (tmp_path / "x" / "modules.json").read_text() == "new"
    assert names(tmp_path) == ["x"]


def test_the_code_of_folders_of_before_is_still_known_as_ours():
    before = "batching colbert colbert_checkpoints colbert_inputs dual_encoder gathering outputs published scoring"
    assert {f"{name}.py" for name in before.split()} <= CODE


@pytest.mark.parametrize("before", [None, "old"])
def test_an_exception_leaves_everything_as_it_was(tmp_path, before):
    if before:
        publish(tmp_path / "x", before)
    with pytest.raises(RuntimeError), new_folder(tmp_path / "x") as staging:
        (staging / "modules.json").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == (["x"] if before else [])
    assert before is None or (tmp_path / "x" / "modules.json").read_text() == before


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "x").mkdir()
    publish(tmp_path / "x")
    assert names(tmp_path / "x") == ["SHA256SUMS", "config.json", "modules.json"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"thesis.docx": ""}, "holds 'thesis.docx', which no published folder has"),
        ({"config.json": '{"m3se": 1}', "training.json": "{}"}, "holds 'training.json'"),
        ({"config.json": '{"m3se": 1}', "notes.txt": ""}, "holds 'notes.txt'"),
        ({"config.json": '{"m3se": 1}', "handler.py": ""}, "holds 'handler.py'"),
        ({"config.json": '{"model_type": "bert"}', "model.safetensors": ""}, "was not published from here"),
        ({"README.md": ""}, "was not published from here"),
    ],
    ids=["foreign", "checkpoint", "notes", "code", "weights", "no config"],
)
def test_what_was_not_published_from_here_is_never_replaced(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        publish(tmp_path)
    assert names(tmp_path) == sorted(files)


def test_a_file_is_not_taken_for_a_folder(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ValueError, match="x is a file"):
        publish(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


TOKEN = "hf_" + "Ab1" * 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"see {TOKEN}.", "a.json would hold an access token"),
        ("the password is sesame", "a.json would hold an access token"),
        ('{"path": "/data/me/models"}', "a.json would show the local path /data/me"),
        ("in /data/me", "a.json would show the local path /data/me"),
    ],
)
def test_secrets_and_paths_are_found_and_tokens_not_repeated(tmp_path, text, message):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        check_clean(tmp_path, [Path("/data/me"), Path("/")], "sesame")
    assert TOKEN not in str(error.value) and "sesame" not in str(error.value)


@pytest.mark.parametrize("text", ["/data/mentioned/elsewhere", "hf_hub_download", "/", "ä"])
def test_what_only_looks_alike_is_let_through(tmp_path, text):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"\xff\xfe/data/me")
    check_clean(tmp_path, [Path("/data/me"), Path("/")], None)
