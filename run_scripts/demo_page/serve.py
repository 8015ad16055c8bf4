"""The page of demo.py, served until the command is stopped."""

import os
import threading
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from m3se.run_scripts.cli.signals import Stopped, end_at_once
from m3se.run_scripts.demo import DemoArguments
from m3se.run_scripts.demo_page.opening import check, open_comparison
from m3se.run_scripts.demo_page.outputs import check_output, read_output
from m3se.trainers.errors import InputError


if TYPE_CHECKING:
    import gradio

OLDEST = 6  # version of Gradio
FONTS = ["system-ui", "sans-serif"]  # of the machine: nothing is loaded from elsewhere
WARM_UP = "how to read a file"  # the first answer opens files, and its times would say little


def main(arguments: DemoArguments) -> None:
    """Serve the page until the command is stopped."""
    check_gradio()
    check(arguments)
    for folder in arguments.run:
        check_output(folder)
    comparison, encodings = open_comparison(arguments)
    outputs = [read_output(folder, comparison.documents, encodings) for folder in arguments.run]
    comparison.answer(WARM_UP)
    from m3se.run_scripts.demo_page.page import build_page

    serve(build_page(comparison, outputs), arguments.host, arguments.port)


def check_gradio() -> None:
    """Raise InputError unless the library of the page is there and new enough; keep it from telling others of us."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        number = version("gradio")
    except PackageNotFoundError:
        raise InputError("the page needs the extra demo-page: pip install -e '.[demo-page]'") from None
    if int(number.partition(".")[0]) < OLDEST:
        raise InputError(f"the page needs Gradio {OLDEST}, this is {number}: pip install 'gradio>=6' 'pillow<13'")


def launch(page: "gradio.Blocks", host: str | None, port: int | None) -> str:
    """Begin to serve a page, and return its address.

    Args:
        page: what to serve.
        host: address to listen to; None: what GRADIO_SERVER_NAME says, or this machine alone.
        port: its port; None: the first that is free.

    Raises:
        InputError: the port is taken, or the address is none of this machine's.
    """
    from gradio.themes import Default

    theme = Default(font=FONTS, font_mono=FONTS)
    quiet = {"quiet": True, "share": False, "footer_links": [], "run_history": False, "ssr_mode": False}
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, theme=theme, prevent_thread_lock=True, mcp_server=False, **quiet
        )
    except OSError as error:
        raise InputError(f"--host, --port: the page cannot listen there: {error}") from error
    return address


def serve(page: "gradio.Blocks", host: str | None, port: int | None) -> None:
    """Serve a page until the process is stopped. Takes and raises what `launch` does."""
    print(f"The page is at {launch(page, host, port)} until Ctrl-C.", flush=True)
    try:
        threading.Event().wait()
    except Stopped as stopped:
        # A server that closes waits for browsers to go, and Python for a query that is being answered.
        end_at_once(stopped.status)
