"""The end of a program whose output nobody reads any more, as in `m3se | head -1`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


STATUS = 141  # a shell's for a program that SIGPIPE has ended


@contextmanager
def end_with_reader() -> Iterator[None]:
    """End the process without a traceback when what the block prints is not read to the end."""
    try:
        yield
    except BrokenPipeError:
        print_rest("\n")  # without a buffer, only a new print tells that this pipe is the broken one
        raise
    except SystemExit:  # of --help, whose text may still be in the buffer
        print_rest()
        raise
    print_rest()


def print_rest(text: str = "") -> None:
    """Write out what was printed, and then a text. Raises SystemExit when the reader of stdout is gone."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        sys.exit(STATUS)
