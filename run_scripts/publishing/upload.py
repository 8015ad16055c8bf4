"""A published folder → one commit of a Hub repository: shown before, verified after.

The access token is HF_TOKEN's or the saved login's, and nobody here ever prints it. A commit arrives whole or not at
all; whatever goes wrong, the message says which, and the same command can be run again.

The transfer is `HfApi.create_commit`, which leaves unchanged files out. `HfApi.upload_folder` is for larger folders:
with hf_xet it repeats a failed commit of more than 20 files in parts (seen: 24 files arrived as 20 and 4), and people
could load a model of which a part is there.
"""

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HTTPError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from m3se.run_scripts.publishing.folder import LAYOUT
from m3se.run_scripts.publishing.hub_access import check_card, explain, may_pass
from m3se.trainers.errors import InputError
from m3se.trainers.storage.checksums import SUMS, digest


logger = logging.getLogger(__name__)

WAITS = (2, 10)  # seconds between tries; huggingface_hub itself waits some more for parts of an upload


@dataclass
class Plan:
    """The work of an upload to `revision` of `repo`, as it was when asked."""

    repo: str
    revision: str
    head: str | None  # its last commit; None: repository or branch will be created
    exists: bool  # the repository
    add: dict[str, int]  # path → bytes, new or changed
    same: list[str]
    delete: list[str]  # of an earlier publication or another model, and not part of this one
    keep: list[str]  # somebody else's, which no library loads a model by

    def __str__(self) -> str:
        """List the files to upload and to delete, and those that stay, one a line."""
        size = sum(self.add.values()) / 1e6
        new = " (new repository)" if not self.exists else " (new branch)" if self.head is None else ""
        where = f"{self.repo}, branch {self.revision}{new}"
        lines = [f"to {where}: {len(self.add)} files to upload ({size:.1f} MB), {len(self.same)} already there"]
        for path, bytes_ in self.add.items():
            lines.append(f"  + {path} ({bytes_ / 1e6:.2f} MB)")
        for path in self.delete:
            lines.append(f"  - {path} (of another model)")
        for path in self.keep:
            lines.append(f"    {path} stays (not ours)")
        return "\n".join(lines)

    def is_done(self) -> bool:
        """Return True when the branch holds the folder already."""
        return self.head is not None and not self.add and not self.delete


def make_plan(api: HfApi, folder: Path, repo: str, revision: str = "main", private: bool = False) -> Plan:
    """Compare the folder with the repository as it is.

    Args:
        api: whose endpoint and token are used.
        folder: a published folder.
        repo: the repository's id, OWNER/NAME.
        revision: the branch to compare with.
        private: refuse a repository that everybody can see.

    Raises:
        InputError: a card that the Hub refuses, no access, no answer, a repository that has another name by now, or a
            public one where `private` was asked for.
    """
    exists, head, remote, earlier = False, None, {}, set()
    try:
        check_card(api, folder / "README.md")
        if exists := api.repo_exists(repo):
            check_repository(api, repo, private)
            head, remote = remote_files(api, repo, revision)
            earlier = published_before(api, repo, head, remote)
    except HTTPError as error:
        raise InputError(explain(error, repo)) from error
    plan = Plan(repo, revision, head, exists, add={}, same=[], delete=[], keep=[])
    local = local_files(folder)
    for path, file in local.items():
        if path in remote and same_content(file, remote[path]):
            plan.same.append(path)
        else:
            plan.add[path] = file.stat().st_size
    for path in sorted(remote.keys() - local.keys()):
        is_outdated = path in earlier or path.partition("/")[0] in LAYOUT
        (plan.delete if is_outdated else plan.keep).append(path)
    return plan


def local_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their path in a repository, in order."""
    files = filter(Path.is_file, sorted(folder.rglob("*")))
    return {file.relative_to(folder).as_posix(): file for file in files}


def check_repository(api: HfApi, repo: str, private: bool) -> None:
    """Raise InputError for a repository that was renamed, or is public although `private` was asked for."""
    about = api.repo_info(repo)
    if about.id != repo:
        raise InputError(f"{repo} is called {about.id} now: publish to that name")
    if private and not about.private:
        raise InputError(f"{repo} is public: --private would not hide what is uploaded there")


def remote_files(api: HfApi, repo: str, revision: str) -> tuple[str | None, dict[str, RepoFile]]:
    """Return a branch's last commit and its files by path; for a new branch None, and main's, which it starts with."""
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
    """Return the files that an earlier publication put into the repository, by its list of checksums."""
    if SUMS not in remote:
        return set()
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo, SUMS, revision=head, local_dir=folder)
        return {line.partition("  ")[2] for line in Path(path).read_text(encoding="utf-8").splitlines()}


def same_content(file: Path, remote: RepoFile) -> bool:
    """Compare a file with the hash that the Hub keeps of its own."""
    return digest(file) == remote.lfs.sha256 if remote.lfs else git_hash(file.read_bytes()) == remote.blob_id


def upload(api: HfApi, folder: Path, plan: Plan, private: bool = False) -> str:
    """Carry the plan out in one commit, look that the Hub has every file of it, and return the commit's id.

    Failures that may pass are tried again. A commit whose answer was lost on the way is recognised.

    Raises:
        InputError: it could not be done; the message says what the repository is like now.
    """
    for wait in (*WAITS, None):
        failure = None
        try:
            commit(api, folder, plan, private)
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            failure = error
        try:
            now = make_plan(api, folder, plan.repo, plan.revision)
        except InputError as error:
            now, failure = None, failure or error
        if now is not None and now.is_done():
            return now.head
        if failure is None:
            names = ", ".join([*now.add, *now.delete])
            raise InputError(f"{plan.repo} was uploaded, but differs from {folder} in {names}: look at it there")
        reason = explain(failure, plan.repo)
        if wait is None or not may_pass(failure):
            raise InputError(f"{reason}; {state(plan, now)}: run the same command again") from failure
        logger.warning("%s; next try in %d s", reason, wait)
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def commit(api: HfApi, folder: Path, plan: Plan, private: bool) -> None:
    """Try once: create repository and branch if they are missing, and commit unless somebody else was faster."""
    if not plan.exists:
        api.create_repo(plan.repo, private=private, exist_ok=True)
    if plan.head is None and plan.revision != "main":
        api.create_branch(plan.repo, branch=plan.revision, exist_ok=True)
    if not plan.add and not plan.delete:
        return
    head = plan.head or api.repo_info(plan.repo, revision=plan.revision).sha
    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    for path in plan.add:
        operations.append(CommitOperationAdd(path, folder / path))
    for path in plan.delete:
        operations.append(CommitOperationDelete(path))
    message = f"Publish {folder.name}"
    api.create_commit(plan.repo, operations, commit_message=message, revision=plan.revision, parent_commit=head)


def state(plan: Plan, now: Plan | None) -> str:
    """Describe the repository's state after a failed upload; `now` is the plan as it would be now."""
    if now is None:
        return "it could not be found out if the commit arrived"
    if not now.exists:
        return "nothing was created"
    if plan.head in (None, now.head):
        return f"{plan.repo} {'holds what it held before' if plan.exists else 'was created and is empty'}"
    return f"somebody else has changed {plan.repo} meanwhile, look at it first"
