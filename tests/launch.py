"""Two processes of one launch, as torchrun starts them, but forked from this one: nothing is imported anew."""

import os
import socket
from collections.abc import Callable
from multiprocessing import get_context


PATIENCE = 300.0  # seconds


def launch(function: Callable, *arguments) -> None:
    """Call the function in both processes; raise AssertionError unless both end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        get_context("fork").Process(target=rank_process, args=(rank, port, function, arguments), daemon=True)
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(PATIENCE)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    assert codes == [0, 0], f"exit codes of the two processes: {codes}"


def rank_process(rank: int, port: int, function: Callable, arguments: tuple) -> None:
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    function(*arguments)
