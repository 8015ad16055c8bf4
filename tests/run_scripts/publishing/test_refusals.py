"""What the Hub refuses: told in one line, in its own words where it has some, before any work where it can be."""

import pytest
from huggingface_hub import HfApi

from m3se.trainers.errors import InputError
from tests.run_scripts.publishing.test_upload import REPO, put, send


def test_private_is_refused_for_a_repository_that_is_public(trained, tmp_path, hub, api):
    api.create_repo(REPO)
    with pytest.raises(InputError, match="org/de-tiny is public: --private would not hide"):
        send(trained, tmp_path, api, private=True)


@pytest.mark.parametrize(
    ("token", "repo", "message"),
    [
        ("writer", "elsewhere/de", "org may not write to elsewhere, only to org: join it first"),
        ("reader", REPO, "the token of somebody may only read: make one that may write to org/de-tiny"),
        ("hf_wrong", REPO, r"does not accept the token.*\(401.*\)"),
        ("writer", "not a name", "repo: .*not a name"),
        ("writer", "de-tiny", "repo: expected OWNER/NAME, such as org/de-m3se, got 'de-tiny'"),
    ],
)
def test_who_may_not_write_is_told_so(trained, tmp_path, hub, token, repo, message):
    with pytest.raises(InputError, match=message) as error:
        send(trained, tmp_path, HfApi(endpoint=hub.url, token=token), repo)
    assert hub.repositories == {} and "hf_wrong" not in str(error.value)
    assert not (tmp_path / "de-tiny").exists()


def test_a_token_that_does_not_say_what_it_may_is_refused_by_the_hub_in_its_own_words(trained, tmp_path, hub):
    with pytest.raises(
        InputError, match=r"the Hub forbids it to write to org/de-tiny \(403: You don't have.*\); nothing"
    ):
        send(trained, tmp_path, HfApi(endpoint=hub.url, token="fine-grained"))
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "the Hub refuses what was sent .400: Repository storage limit reached.; org/de-tiny was created"),
        (403, "the Hub forbids it to write to org/de-tiny .403: Repository storage limit reached.; org/de-tiny was"),
        (413, "a file is too large for the Hub .413: Repository storage limit reached.; org/de-tiny was created"),
    ],
)
def test_a_lasting_refusal_is_told_in_the_hubs_words_and_not_tried_again(built, hub, api, status, message):
    hub.fail_next("POST", "/commit/", times=50, status=status, message="Repository storage limit reached")
    with pytest.raises(InputError, match=message):
        put(built, api)
    assert [path for method, path in hub.requests if "/commit/" in path] == [f"/api/models/{REPO}/commit/main"]


def test_metadata_that_the_hub_refuses_is_told_before_anything_is_made(trained, tmp_path, hub, api):
    reason = r"README.md: the Hub refuses the card's metadata: .*\"license\" must be one of \[apache-2.0, mit"
    with pytest.raises(InputError, match=reason):
        send(trained, tmp_path, api, license="apache-2.1")
    with pytest.raises(InputError, match=r'"language\[0\]" with value "qq" is not valid'):
        send(trained, tmp_path, api, language="qq", dry_run=True)
    assert hub.repositories == {}


def test_a_repository_that_was_renamed_is_named(trained, tmp_path, hub, api):
    api.create_repo(REPO)
    hub.renamed["org/de-old"] = REPO
    with pytest.raises(InputError, match="org/de-old is called org/de-tiny now: publish to that name"):
        send(trained, tmp_path, api, repo="org/de-old")
    assert hub.files(REPO) == {}


def test_without_a_token_nothing_is_even_built(trained, tmp_path, monkeypatch, hub):
    monkeypatch.setattr("m3se.run_scripts.publishing.hub_access.get_token", lambda: None)
    with pytest.raises(InputError, match="no access token: set HF_TOKEN"):
        send(trained, tmp_path, HfApi(endpoint=hub.url))
    assert not (tmp_path / "de-tiny").exists()
