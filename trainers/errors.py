"""The error that a user can mend, and the wording of its one line."""

from collections.abc import Iterable


NAMES_SHOWN = 5


class InputError(ValueError):
    """An input that cannot be used. The message names the culprit, what was expected and what was got.

    Scripts print it as one line and exit with status 2; a traceback is kept for our own mistakes.
    """


def shorten(text: str, length: int = 80) -> str:
    """Return `text` as a literal of at most `length` characters, for messages."""
    return repr(text if len(text) <= length else text[: length - 1] + "…")


def preview(names: Iterable[str]) -> str:
    """List the first five names, for messages."""
    names = list(names)
    shown = ", ".join(shorten(name)[1:-1] for name in names[:NAMES_SHOWN])
    return shown + (", …" if len(names) > NAMES_SHOWN else "")


def first_line(error: Exception | str) -> str:
    """Return another library's error, or its message, in one line of at most 500 characters."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)[:500]
