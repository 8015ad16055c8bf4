"""What the local Hub remembers: repositories with their commits and branches, and the failures it was told to play."""

import hashlib
import re
from dataclasses import dataclass, field


class Refused(Exception):
    """An answer with an error status; `code` is what huggingface_hub turns into an exception class."""

    def __init__(self, status: int, code: str, message: str | None = None, **body):
        self.status, self.code, self.message = status, code, message or code
        self.body = {"error": self.message} | body


@dataclass
class File:
    content: bytes
    lfs: bool

    @property
    def git_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_id


@dataclass
class Repository:
    """Every commit's files; `branches` name commits."""

    private: bool
    commits: dict[str, dict[str, File]]
    branches: dict[str, str]
    messages: list[str] = field(default_factory=list)

    @classmethod
    def new(cls, private: bool) -> "Repository":
        return cls(private, {"0" * 40: {}}, {"main": "0" * 40})

    def resolve(self, revision: str) -> str:
        commit = self.branches.get(revision, revision)
        if commit not in self.commits:
            raise Refused(404, "RevisionNotFound")
        return commit

    def commit(self, branch: str, files: dict[str, File], message: str) -> str:
        names = "".join(f"{path} {file.git_id}\n" for path, file in sorted(files.items()))
        commit = hashlib.sha1(f"{self.branches[branch]} {message}\n{names}".encode()).hexdigest()
        self.commits[commit], self.branches[branch] = files, commit
        self.messages.append(message)
        return commit


@dataclass
class Failure:
    method: str
    path: str  # a regular expression
    times: int
    status: int | None  # None: the connection is cut
    after: bool  # whether the server first does what was asked
    message: str


LICENSES = ("apache-2.0", "mit", "cc-by-4.0", "other")  # a few of the Hub's long lists
LANGUAGES = ("en", "de", "fr", "multilingual")


@dataclass
class Hub:
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)  # old id → id
    collections: dict[str, dict] = field(default_factory=dict)
    large_files: dict[str, bytes] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def fail_next(
        self,
        method: str,
        path: str,
        *,
        times: int = 1,
        status: int | None = None,
        after: bool = False,
        message: str = "injected",
    ):
        """Let the next `times` requests that match fail, with a status and a message or (None) by a cut connection."""
        self.failures.append(Failure(method, path, times, status, after, message))

    def card_errors(self, front: dict) -> list[str]:
        """Return the Hub's objections to a card's metadata, of the kinds that it has for licence, language and ids."""
        languages, bases, datasets = (front.get(name) or [] for name in ("language", "base_model", "datasets"))
        errors = []
        if front.get("license") not in (None, *LICENSES):
            errors.append(f'"license" must be one of [{", ".join(LICENSES)}]')
        for language in [languages] if isinstance(languages, str) else languages:
            if language not in LANGUAGES:
                errors.append(f'"language[0]" with value "{language}" is not valid. It must be an ISO 639-1 code')
        for name, values in (("base_model", bases), ("datasets", datasets)):
            for value in [values] if isinstance(values, str) else values:
                if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", value):
                    errors.append(f'"{name}" with value "{value}" is not valid. Use an id from https://hf.co')
        return errors

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        found = self.repositories[repository]
        return {path: file.content for path, file in found.commits[found.resolve(revision)].items()}

    def failure(self, method: str, path: str) -> Failure | None:
        for failure in self.failures:
            if failure.times and failure.method == method and re.search(failure.path, path):
                failure.times -= 1
                return failure
        return None
