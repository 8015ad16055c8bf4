"""Publishing into a repository that holds other files."""

from m3se.run_scripts.publishing.upload import make_plan, upload
from m3se.trainers.storage.checksums import write_sums
from tests.run_scripts.publishing.test_upload import REPO, folder_files, put


def test_of_what_others_put_there_only_another_models_layout_goes(built, hub, api):
    api.create_repo(REPO)
    theirs = ("handler.py", "images/logo.png", "notes.ipynb", "requirements.txt", "pytorch_model.bin")
    in_the_way = ("1_Pooling/other.json", "adapter_config.json", "artifact.metadata", "vocab.txt")
    for name in (*theirs, *in_the_way, "modules.json"):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id=REPO)
    plan = make_plan(api, built, REPO)
    assert (plan.delete, plan.keep) == (sorted(in_the_way), sorted(theirs))
    assert "- artifact.metadata (of another model)" in str(plan) and "notes.ipynb stays (not ours)" in str(plan)
    upload(api, built, plan)
    assert hub.files(REPO) == folder_files(built) | dict.fromkeys(theirs, b"{}")


def test_what_an_earlier_publication_left_goes_and_only_that(built, changed, hub, api):
    (changed / "images").mkdir()
    (changed / "images" / "old.png").write_bytes(b"\x89PNG\xff")
    write_sums(changed)
    put(changed, api)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="images/logo.png", repo_id=REPO)
    plan = make_plan(api, built, REPO)
    assert (plan.delete, plan.keep) == (["images/old.png"], ["images/logo.png"])
