"""Checksums of written files, so that a file that was cut short or changed is noticed before a number comes of it.

A folder's `SHA256SUMS` is in the format of the program of that name: `sha256sum -c SHA256SUMS` checks it too. A folder
without one is taken as it is: whoever changes a file on purpose deletes it.
"""

import hashlib
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

from m3se.trainers.errors import InputError


SUMS = "SHA256SUMS"


def write_sums(folder: Path, leave_out: Collection[str] = ()) -> None:
    """Write the checksums of all files in and below `folder`, except those left out, into its `SHA256SUMS`."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    text = checksum_lines({name: path for name, path in files.items() if name not in (SUMS, *leave_out)})
    (folder / SUMS).write_text(text, encoding="utf-8")


def checksum_lines(files: Mapping[str, Path]) -> str:
    """Return the text of a file of checksums; `files` maps the names in it to the paths of their content."""
    return "".join(f"{digest(path)}  {name}\n" for name, path in files.items())


def find_damage(folder: Path, sums: str = SUMS) -> str | None:
    """Describe the first fault of the files that `sums` in `folder` names; None without a fault or without `sums`."""
    try:
        expected = (folder / sums).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError):
        return f"{sums} cannot be read"
    if not expected:
        return f"{sums} is empty"
    for line in expected:
        checksum, _, name = line.partition("  ")
        try:
            if digest(folder / name) != checksum:
                return f"{name or sums} is not what was written: its checksum is another"
        except FileNotFoundError:
            return f"{name} is missing"
        except (OSError, ValueError) as error:
            return f"{name or sums} cannot be read: {error}"
    return None


def refuse_damaged_model(name_or_path: str | Path) -> None:
    """Raise InputError when this is a folder of ours in which a file is not what was written."""
    refuse_damaged(name_or_path, f"train or fetch the model again (or delete {SUMS} if you changed it yourself)")


def refuse_damaged(folder: str | Path, advice: str) -> None:
    """Raise InputError when a file of `folder` is not what was written there; `advice` says what mends it."""
    if damage := find_damage(Path(folder)):
        raise InputError(f"{folder}: {damage}; {advice}")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits, computed once per process while the file stays as it is."""
    about = path.stat()
    return _digest(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _digest(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
