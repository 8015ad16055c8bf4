"""Publishing over real HTTP to a Hub on this machine, and every way it can go wrong."""

import json

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard

from m3se import DualEncoder
from m3se.run_scripts.cli.app import parse, run
from m3se.run_scripts.publish import main, make_parser
from m3se.run_scripts.publishing.build import build_folder
from m3se.run_scripts.publishing.push import publish
from m3se.run_scripts.publishing.upload import make_plan, upload
from m3se.trainers.errors import InputError
from tests.hub_server import serve
from tests.hub_state import File
from tests.run_scripts.conftest import SECRET
from tests.worlds import tiny


REPO = "org/de-tiny"


def put(folder, api, repo=REPO):
    """Only what needs the network, for a folder that is there -> commit."""
    return upload(api, folder, make_plan(api, folder, repo))


def send(trained, tmp_path, api, repo=REPO, **options):
    return publish(trained, tmp_path / "de-tiny", repo, api=api, **options)


def folder_files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_repository_holds_exactly_the_folder_after_one_commit(trained, tmp_path, hub, api, capsys):
    commit = send(trained, tmp_path, api)
    assert hub.files(REPO, commit) == hub.files(REPO) == folder_files(tmp_path / "de-tiny")
    assert hub.repositories[REPO].messages == ["Publish de-tiny"]
    assert hub.repositories[REPO].commits[commit]["model.safetensors"].lfs
    assert not hub.repositories[REPO].private
    out = capsys.readouterr().out
    assert f"to {REPO}, branch main (new repository)" in out and "+ model.safetensors" in out
    assert "every file is there as it is in" in out


def test_no_token_path_or_training_file_leaves_the_machine(trained, tmp_path, hub, api, capfd):
    send(trained, tmp_path, api)
    for name, content in hub.files(REPO).items():
        assert "training" not in name
        assert SECRET.encode() not in content and b"writer" not in content and str(trained).encode() not in content
    written = capfd.readouterr()
    assert SECRET not in written.out + written.err and "writer" not in written.out + written.err


def test_the_same_again_makes_no_second_commit(trained, tmp_path, hub, api):
    assert send(trained, tmp_path, api) == send(trained, tmp_path, api)
    assert len(hub.repositories[REPO].messages) == 1


def test_a_new_branch_of_a_private_repository_leaves_the_others_alone(trained, tmp_path, hub, api):
    api.create_repo(REPO, private=True)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="modules.json", repo_id=REPO)
    send(trained, tmp_path, api, private=True, revision="v2")
    assert hub.files(REPO) == {"modules.json": b"{}"}
    assert hub.files(REPO, "v2") == folder_files(tmp_path / "de-tiny")


def test_a_dry_run_shows_and_changes_nothing(trained, tmp_path, hub, api, capsys):
    assert send(trained, tmp_path, api, dry_run=True) is None
    assert hub.repositories == {}
    assert "+ README.md" in capsys.readouterr().out


@pytest.mark.parametrize("status", [429, 500, 503, None], ids=str)
@pytest.mark.parametrize("where", [("POST", "/preupload/"), ("PUT", "/lfs/"), ("POST", "/commit/")], ids=str)
def test_a_passing_failure_is_retried(built, hub, api, status, where):
    hub.fail_next(*where, times=2, status=status)
    commit = put(built, api)
    assert hub.files(REPO, commit) == folder_files(built)
    assert len(hub.repositories[REPO].messages) == 1


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (("POST", "/repos/create"), "nothing was created"),
        (("POST", "/preupload/"), "org/de-tiny was created and is empty"),
        (("PUT", "/lfs/"), "org/de-tiny was created and is empty"),
        (("POST", "/commit/"), "org/de-tiny was created and is empty"),
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [500, None], ids=str)
def test_a_lasting_failure_leaves_nothing_half_done_and_can_be_repeated(built, hub, api, where, left, status):
    hub.fail_next(*where, times=50, status=status)
    with pytest.raises(InputError, match=f"{left}: run the same command again"):
        put(built, api)
    assert REPO not in hub.repositories or hub.files(REPO) == {}
    hub.failures.clear()
    commit = put(built, api)
    assert hub.files(REPO, commit) == folder_files(built)


def test_a_lasting_failure_leaves_an_older_publication_whole(built, changed, hub, api):
    first = put(built, api)
    hub.fail_next("POST", "/commit/", times=50, status=500)
    with pytest.raises(InputError, match="the Hub failed .500: injected.; org/de-tiny holds what it held before"):
        put(changed, api)
    assert hub.files(REPO) == hub.files(REPO, first)


@pytest.mark.parametrize("times", [1, 50])
def test_a_commit_that_arrived_though_the_answer_was_lost_is_recognised(built, hub, api, times):
    hub.fail_next("POST", "/commit/", times=times, after=True)
    commit = put(built, api)
    assert hub.files(REPO, commit) == folder_files(built)
    assert len(hub.repositories[REPO].messages) == 1


def test_somebody_elses_commit_meanwhile_is_not_overwritten(built, changed, hub, api):
    put(built, api)
    repository, commit_route = hub.repositories[REPO], hub.failure

    def interfere(method, path):
        if "/commit/" in path and len(repository.messages) == 1:
            repository.commit("main", {}, "theirs")
        return commit_route(method, path)

    hub.failure = interfere
    with pytest.raises(InputError, match="changed by somebody else during the upload .412: .*.; somebody else has"):
        put(changed, api)
    assert hub.files(REPO) == {}


def test_a_repository_and_branch_that_appear_meanwhile_are_used(built, hub, api):
    plan = make_plan(api, built, REPO, "v2")
    assert not plan.exists
    api.create_repo(REPO)
    api.create_branch(REPO, branch="v2")  # both are now answered by 409
    commit = upload(api, built, plan)
    assert hub.files(REPO, "v2") == hub.files(REPO, commit) == folder_files(built)
    assert ("POST", "/api/repos/create") in hub.requests and hub.files(REPO) == {}


def test_our_classes_read_the_branch_and_with_the_token_that_were_asked_for(built, tmp_path, hub, api, monkeypatch):
    address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    api.create_repo(REPO, private=True)
    models = {}
    for seed, branch in ((1, "main"), (2, "v2")):
        models[branch] = tiny.dual_encoder(seed)
        models[branch].save_pretrained(tmp_path / branch)
        tiny.tokenizer().save_pretrained(tmp_path / branch)
        folder = build_folder(tmp_path / branch, tmp_path / "published" / branch)
        upload(api, folder, make_plan(api, folder, REPO, branch))
    for branch, model in models.items():
        found = DualEncoder.from_pretrained(REPO, revision=branch, token="writer", cache_dir=tmp_path / "cache")
        torch.testing.assert_close(found.state_dict(), model.state_dict())
    with pytest.raises(OSError):
        DualEncoder.from_pretrained(REPO, token=False, cache_dir=tmp_path / "other")
    with pytest.raises(TypeError, match="in float32: dtype cannot be given"):
        DualEncoder.from_pretrained(tmp_path / "published" / "main", dtype=torch.bfloat16)


def test_when_the_hub_is_out_of_reach_it_says_so(built):
    with serve() as hub:
        gone = hub.url
    with pytest.raises(InputError, match="no connection to the Hub"):
        put(built, HfApi(endpoint=gone, token="writer"))


def after_the_commit(hub, happen):
    """Let something happen on the Hub as soon as it has taken a commit."""
    failure = hub.failure

    def watch(method, path):
        if hub.repositories.get(REPO) and hub.repositories[REPO].messages:
            happen()
        return failure(method, path)

    hub.failure = watch


@pytest.mark.parametrize("status", [403, None])
def test_a_check_that_fails_is_not_taken_for_a_failed_upload(trained, tmp_path, hub, api, status):
    after_the_commit(hub, lambda: hub.fail_next("GET", "/tree/", times=50, status=status))
    with pytest.raises(InputError, match="it could not be found out if the commit arrived: run the same"):
        send(trained, tmp_path, api)
    assert hub.files(REPO) == folder_files(tmp_path / "de-tiny")
    hub.failures.clear()
    del hub.failure
    send(trained, tmp_path, api)
    assert len(hub.repositories[REPO].messages) == 1


@pytest.mark.parametrize("name", ["README.md", "vocab.txt"])
def test_a_file_that_the_hub_has_otherwise_is_noticed(built, hub, api, name):
    def change():
        repository = hub.repositories[REPO]
        repository.commits[repository.resolve("main")][name] = File(b"other", lfs=False)

    after_the_commit(hub, change)
    with pytest.raises(InputError, match=f"org/de-tiny was uploaded, but differs from .*de-tiny in {name}: look"):
        put(built, api)


def test_a_model_whose_folder_scores_otherwise_is_not_uploaded(trained, tmp_path, hub, api, monkeypatch):
    build = build_folder

    def spoil(*arguments, **values):
        folder = build(*arguments, **values)
        fields = json.loads((folder / "config.json").read_text())
        fields["m3se"]["pooling"] = "cls"
        (folder / "config.json").write_text(json.dumps(fields))
        (folder / "SHA256SUMS").unlink()
        return folder

    monkeypatch.setattr("m3se.run_scripts.publishing.push.build_folder", spoil)
    with pytest.raises(InputError, match="de-tiny scores .*, but .* scores"):
        send(trained, tmp_path, api)
    assert hub.repositories == {}


def use_hub(hub, monkeypatch):
    """Let HfApi() find the local Hub; its address was read on import."""
    address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setenv("HF_TOKEN", "writer")


def run_script(hub, monkeypatch, *arguments):
    """publish.py as a user starts it, but for the process of its own."""
    use_hub(hub, monkeypatch)
    main(*parse(make_parser(), [str(argument) for argument in arguments]))


def test_the_script_publishes_with_results_pictures_and_benchmark(trained, tmp_path, hub, monkeypatch, capsys):
    results = tmp_path / "metrics.json"
    results.write_text(json.dumps({"MRR@10": 0.5, "queries": 20}))
    (tmp_path / "curve.png").write_bytes(b"\x89PNG\r\n\xff")
    folder, picture = tmp_path / "de-tiny", f"{tmp_path / 'curve.png'}=How it learned"
    known = ["--metrics", results, "--dataset", "pydocs", "--split", "test", "--license", "mit", "--pictures", picture]
    report = ["--benchmark", "org/bench:ranking:MRR@10"]
    run_script(hub, monkeypatch, "--model", trained, "--folder", folder, "--repo", REPO, *known, *report)
    assert b"![How it learned](images/curve.png)" in hub.files(REPO)["README.md"]
    assert yaml.safe_load(hub.files(REPO)[".eval_results/org--bench.yaml"]) == [
        {"dataset": {"id": "org/bench", "task_id": "ranking"}, "value": 0.5, "notes": "MRR@10, 20 queries"}
    ]
    assert f"/tree/{hub.repositories[REPO].resolve('main')}: every file" in capsys.readouterr().out
    card = ModelCard(hub.files(REPO)["README.md"].decode())
    assert card.data.eval_results[0].metric_value == 0.5


def test_a_command_does_not_tell_every_request(trained, tmp_path, hub, monkeypatch, caplog):
    caplog.set_level("INFO")
    caplog.set_level("NOTSET", "httpx2")
    use_hub(hub, monkeypatch)
    words = ["--model", trained, "--folder", tmp_path / "de-tiny", "--repo", REPO]
    monkeypatch.setattr("sys.argv", ["publish.py", *map(str, words)])
    run(make_parser, main)
    assert len(hub.requests) > 5
    assert [record.getMessage() for record in caplog.records if record.name.startswith("httpx")] == []


def test_what_is_no_model_is_refused_before_anything_is_sent(tmp_path, hub, monkeypatch):
    with pytest.raises(InputError, match="config.json: cannot be read"):
        run_script(hub, monkeypatch, "--model", tmp_path, "--folder", tmp_path / "x", "--repo", REPO)
    with pytest.raises(InputError, match="--model: which directory"):
        run_script(hub, monkeypatch, "--folder", tmp_path / "x")
    assert not (tmp_path / "x").exists() and hub.requests == [("GET", "/api/whoami-v2")]
