"""The programs that serve a page, in processes of their own, stopped while somebody looks at it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from m3se.run_scripts.publishing.space import write_space


SCRIPT = Path(__file__).parents[3] / "run_scripts" / "demo.py"
ALLOWED = 5.0  # seconds between the signal and the end

pytestmark = [pytest.mark.long, pytest.mark.linux]


@pytest.fixture(scope="module", autouse=True)
def gradio():
    return pytest.importorskip("gradio")


def write_demo(world, folder):
    return [str(SCRIPT), "--model", world["student"], "--data", world["data"], "--cache_dir", world["cache"]]


def write_app(world, folder):
    write_space("org/page", "org/model", folder / "space")
    return [str(folder / "space" / "app.py")]


@pytest.fixture(
    params=[(write_demo, "Searches side by side", signal.SIGINT), (write_app, "Texts to rank", signal.SIGTERM)],
    ids=["demo", "space"],
)
def served(request, world, tmp_path):
    """A process that serves a page, its port, words of the page, and the signal to stop it."""
    write, words, number = request.param
    command = write(world, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "MODEL": world["student"]}
    process = subprocess.Popen([sys.executable, *command], env=environment, **pipes)
    yield process, port, words, number
    process.kill()
    process.communicate()


def open_stream(port):
    """Open the stream of events that a browser keeps open as long as it shows the page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/gradio_api/heartbeat/someone")
    answer = connection.getresponse()
    assert answer.getheader("content-type").startswith("text/event-stream")
    assert answer.readline().startswith(b"data")
    return connection


def test_a_signal_ends_it_with_one_line_though_a_browser_is_connected(served):
    process, port, words, number = served
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/")
        assert words in connection.getresponse().read().decode("utf-8")
    with closing(open_stream(port)):
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert time.monotonic() - started < ALLOWED
    assert process.communicate()[1].strip().splitlines()[-1:] == ["stopped; run the same again to go on"]
