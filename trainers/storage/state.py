"""The state of files and packages that something was made of, read again to see whether anything has changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version


NOT_STATE = {"__pycache__"}  # folders that change without their contents changing

Files = list[list]  # path below a folder, size, time of change in nanoseconds


@dataclass(frozen=True)
class State:
    """The state of files and packages, by sizes, times and versions: contents are not read.

    Attributes:
        files: folder or file → what is in it, as `files_below` lists it.
        packages: distribution → version; None where it is not installed.
    """

    files: dict[str, Files]
    packages: dict[str, str | None]

    @classmethod
    def read(cls, places: Iterable[str | Path], packages: Iterable[str] = ()) -> "State":
        """Look at some files or folders, and at the versions of some distributions."""
        files = {str(Path(place).resolve()): files_below(Path(place)) for place in places}
        return cls(files, {name: package_version(name) for name in packages})

    def __or__(self, other: "State") -> "State":
        """Unite two states."""
        return State(self.files | other.files, self.packages | other.packages)

    def is_current(self) -> bool:
        """Tell whether everything is as it was."""
        return self == State.read(self.files, self.packages)


def files_below(place: Path) -> Files:
    """List path, size and time of change of a file, or of every file below a folder, sorted; none where nothing is."""
    files = [place] if place.is_file() else place.rglob("*")
    listed = []
    for file in files:
        parts = file.relative_to(place).parts
        if file.is_file() and NOT_STATE.isdisjoint(parts):
            status = file.stat()
            listed.append(["/".join(parts), status.st_size, status.st_mtime_ns])
    return sorted(listed)


def package_version(distribution: str) -> str | None:
    """Return the installed version of a distribution, None without one; `python` has the interpreter's."""
    try:
        return python_version() if distribution == "python" else version(distribution)
    except PackageNotFoundError:
        return None
