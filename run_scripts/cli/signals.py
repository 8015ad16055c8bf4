"""Ctrl-C and SIGTERM end a script within five seconds, with one line that says how to go on.

The first of either raises Stopped in the main thread, so that what is open is closed properly; later ones are ignored,
because a launcher sends them to processes that are already ending. Python runs a handler only between bytecodes: a
main thread that waits inside a library, such as for a process that is gone, would never see it. A second thread reads
the signal too, and ends the process when the main thread has not.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


STOPPING = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 3.5  # for the main thread
LAST_SECONDS = 1.0  # for exit handlers after that
HOW_TO_GO_ON = "stopped; run the same again to go on"


class Stopped(KeyboardInterrupt):
    """One of `STOPPING` has arrived; `status` is what a shell reports of a process that it ended."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def handle_stop_signals() -> Iterator[None]:
    """Raise Stopped in the main thread at the first of `STOPPING` in the block, and see that the process ends."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    ended = threading.Event()
    before = {number: signal.signal(number, stop) for number in STOPPING}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=force_exit, args=(reader, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()


def stop(number: int, _) -> None:
    """Raise Stopped, and ignore further signals."""
    for stopping in STOPPING:
        signal.signal(stopping, signal.SIG_IGN)
    raise Stopped(number)


def force_exit(reader: socket.socket, ended: threading.Event) -> None:
    """End the process when one of `STOPPING` has arrived and the main thread does not leave the block."""
    with reader:
        while received := reader.recv(1):
            if received[0] in STOPPING:
                if hasattr(signal, "setitimer"):  # not on Windows
                    # SIGALRM ends the process whatever it hangs in, be it the destructors of a library.
                    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS + LAST_SECONDS)
                if not ended.wait(GRACE_SECONDS):
                    end_at_once(128 + received[0])
                return


def end_at_once(status: int) -> NoReturn:
    """End a stopped process with its line, without waiting for its threads, and with nothing more written to files."""
    say(HOW_TO_GO_ON)
    os._exit(status)


def say(line: str) -> None:
    """Print a line on stderr, in the first process of a launch only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"\n{line}", file=sys.stderr, flush=True)


def forget() -> None:
    """Let a forked child die of its signals as it would without us, and not wake its parent's thread."""
    if signal.getsignal(signal.SIGTERM) is stop:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=forget)
