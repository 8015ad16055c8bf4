"""A published folder → one commit of a Hub repository: shown before, verified after.

The access token is HF_TOKEN's or the saved login's, and nobody here ever prints it. A commit arrives whole or not at
all; whatever goes wrong, the message says which, and the same command can be run again.
"""

import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from m3se.run_scripts.publishing.folder import LAYOUT
from m3se.trainers.errors import InputError
from m3se.trainers.storage.checksums import SUMS


logger = logging.getLogger(__name__)

WAITS = (2, 10)  # seconds between tries; huggingface_hub itself waits some more for parts of an upload


@dataclass
class Plan:
    """What an upload will do to `revision` of `repo`, as it was when asked."""

    repo: str
    revision: str
    head: str | None  # its last commit; None: repository or branch will be created
    exists: bool  # the repository
    add: dict[str, int]  # path → bytes, new or changed
    same: list[str]
    delete: list[str]  # of an earlier publication or another model, and not part of this one
    keep: list[str]  # somebody else's, which no library loads a model by

    def __str__(self) -> str:
        size = sum(self.add.values()) / 1e6
        new = " (new repository)" if not self.exists else " (new branch)" if self.head is None else ""
        where = f"{self.repo}, branch {self.revision}{new}"
        lines = [f"to {where}: {len(self.add)} files to upload ({size:.1f} MB), {len(self.same)} already there"]
        lines += [f"  + {path} ({bytes_ / 1e6:.2f} MB)" for path, bytes_ in self.add.items()]
        lines += [f"  - {path} (of another model)" for path in self.delete]
        lines += [f"    {path} stays (not ours)" for path in self.keep]
        return "\n".join(lines)


def make_plan(api: HfApi, folder: Path, repo: str, revision: str = "main", private: bool = False) -> Plan:
    """Compare the folder with the repository as it is.

    Raises:
        InputError: no token, a bad name, no access, no answer; or a public repository where `private` was asked for.
    """
    check_token(api)
    local = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    exists, head, remote, earlier = True, None, {}, set()
    try:
        exists = api.repo_exists(repo)
        if exists:
            if private and not api.repo_info(repo).private:
                raise InputError(f"{repo} is public: --private would not hide what is uploaded there")
            head, remote = remote_files(api, repo, revision)
            earlier = published_before(api, repo, head, remote)
    except HFValidationError as error:
        raise InputError(f"repo: {first_line(error)}") from error
    except HTTPError as error:
        raise InputError(explain(error, repo)) from error
    same = [path for path, file in local.items() if path in remote and same_content(file, remote[path])]
    others = sorted(remote.keys() - local.keys())
    delete = [path for path in others if path in earlier or path.partition("/")[0] in LAYOUT]
    add = {path: file.stat().st_size for path, file in local.items() if path not in same}
    return Plan(repo, revision, head, exists, add, same, delete, [path for path in others if path not in delete])


def check_token(api: HfApi) -> None:
    """Raise InputError when there is no access token."""
    if not (api.token or get_token()):
        raise InputError("no access token: set HF_TOKEN, or log in once with `hf auth login`")


def remote_files(api: HfApi, repo: str, revision: str) -> tuple[str | None, dict[str, RepoFile]]:
    """The last commit of a branch and its files by path; for a new branch None, and main's, which it starts with."""
    try:
        head = api.repo_info(repo, revision=revision).sha
    except RevisionNotFoundError:
        return (None, remote_files(api, repo, "main")[1]) if revision != "main" else (None, {})
    try:
        entries = list(api.list_repo_tree(repo, revision=head, recursive=True))
    except EntryNotFoundError:  # an empty repository
        entries = []
    return head, {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def published_before(api: HfApi, repo: str, head: str | None, remote: dict[str, RepoFile]) -> set[str]:
    """The files that an earlier publication from here put into the repository, by its list of checksums."""
    if SUMS not in remote:
        return set()
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo, SUMS, revision=head, local_dir=folder)
        return {line.partition("  ")[2] for line in Path(path).read_text(encoding="utf-8").splitlines()}


def same_content(file: Path, remote: RepoFile) -> bool:
    """Whether a file has the content that the Hub has, by the hash that the Hub keeps of it."""
    content = file.read_bytes()
    if remote.lfs is not None:
        return hashlib.sha256(content).hexdigest() == remote.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == remote.blob_id


def upload(api: HfApi, folder: Path, plan: Plan, private: bool = False) -> str:
    """Carry the plan out in one commit; returns the commit's id.

    Failures that may pass are tried again; a commit whose answer was lost on the way is recognised.

    Raises:
        InputError: it could not be done; the message says what the repository is like now.
    """
    for wait in (*WAITS, None):
        try:
            return commit(api, folder, plan, private)
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            reason = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
            try:
                now = make_plan(api, folder, plan.repo, plan.revision)
            except InputError:
                now = None
            if now is not None and now.head is not None and not now.add and not now.delete:
                return now.head
            if wait is None or not may_pass(reason):
                raise InputError(f"{explain(reason, plan.repo)}; {state(plan, now)}") from error
            logger.warning("%s; next try in %d s", explain(reason, plan.repo), wait)
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def commit(api: HfApi, folder: Path, plan: Plan, private: bool) -> str:
    """One try: repository and branch if they are missing, then the commit, made only if nobody else was faster."""
    if not plan.exists:
        api.create_repo(plan.repo, private=private, exist_ok=True)
    if plan.head is None and plan.revision != "main":
        api.create_branch(plan.repo, branch=plan.revision, exist_ok=True)
    head = plan.head or api.repo_info(plan.repo, revision=plan.revision).sha
    if not plan.add and not plan.delete:
        return head
    operations = [CommitOperationAdd(path, folder / path) for path in plan.add]
    operations += [CommitOperationDelete(path) for path in plan.delete]
    message = f"Publish {folder.name}"
    made = api.create_commit(plan.repo, operations, commit_message=message, revision=plan.revision, parent_commit=head)
    return made.oid


def state(plan: Plan, now: Plan | None) -> str:
    """What the repository is like after a failure, in words; `now` is the plan as it would be now."""
    again = "run the same command again"
    if now is None:
        return f"whether the commit arrived could not be found out: {again}"
    if not now.exists:
        return f"nothing was created: {again}"
    if not plan.exists:
        return f"{plan.repo} was created and is empty: {again}"
    if plan.head in (None, now.head):
        return f"{plan.repo} holds what it held before: {again}"
    return f"somebody else has changed {plan.repo} meanwhile: look at it, then {again}"


def may_pass(error: Exception) -> bool:
    """Whether it may help to wait: the Hub is busy or broken, or the connection is."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (429, 500, 502, 503, 504)
    return isinstance(error, HTTPError)


@contextmanager
def downloaded(api: HfApi, repo: str, commit: str, folder: Path) -> Iterator[Path]:
    """Every file of a commit, fetched anew (never from the cache) into a temporary folder.

    Raises:
        InputError: a file of the published `folder` did not come back as it was.
    """
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        try:
            api.snapshot_download(repo, revision=commit, local_dir=copy)
        except (HTTPError, OSError) as error:
            reason = explain(error, repo)
            raise InputError(f"{repo} was uploaded, but could not be downloaded for a check: {reason}") from error
        for path in (path for path in folder.rglob("*") if path.is_file()):
            again = copy / path.relative_to(folder)
            if not again.is_file() or again.read_bytes() != path.read_bytes():
                raise InputError(f"{repo} was uploaded, but {path.relative_to(folder)} comes back changed")
        yield copy


def explain(error: Exception, repo: str) -> str:
    """One line on what the Hub, or the way to it, objected to."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    meanings = {
        401: f"the Hub does not accept the token, or hides {repo} from it (401): check HF_TOKEN or `hf auth login`",
        403: f"the token may not write to {repo} (403)",
        412: f"{repo} was changed by somebody else during the upload (412)",
        413: "a file is too large for the Hub (413)",
        429: "the Hub asks to wait: too many requests (429)",
    }
    if status in meanings:
        return meanings[status]
    if isinstance(error, RepositoryNotFoundError):
        return f"{repo} does not exist or is not yours to see (404)"
    if status is not None:
        return f"the Hub failed ({status})"
    return f"no connection to the Hub ({type(error).__name__}: {first_line(error)})"


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
